package dhcp

import "fmt"

// Warnings are what the operator should know of now, each a sentence. Their number is bounded, whatever the guest does:
// settings that the namespace lacks, options that did not fit into the last reply, a guest that found its address in use,
// requests that were relayed or malformed, and the last client with another MAC.
func (s *Server) Warnings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	warnings := append([]string(nil), s.missing...)
	h := s.handler
	if h.leftOut != "" {
		warnings = append(warnings, h.leftOut)
	}
	if h.declined {
		warnings = append(warnings, fmt.Sprintf("%s: %s", h.offer.Address.Addr(), declinedText))
	}
	warnings = append(warnings, h.refused.texts()...)
	if f := h.stats.Foreign; f.Frames > 0 {
		warnings = append(warnings, h.foreignText(f.MAC))
	}
	return warnings
}
