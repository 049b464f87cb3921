"""Whether an encoder knows dependency trees and relations of regions: structural probes, their controls, retrieval."""
