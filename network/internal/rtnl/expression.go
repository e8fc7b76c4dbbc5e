package rtnl

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of nftables' fwd and dup of the family netdev (enum nft_fwd_attributes, enum nft_dup_attributes,
// include/uapi/linux/netfilter/nf_tables.h).
const (
	fwdFromRegister = 1 // NFTA_FWD_SREG_DEV
	dupFromRegister = unix.NFTA_DUP_SREG_DEV
)

// encodeExpressions writes what a rule is made of. The index of a link that it forwards to is asked for.
func encodeExpressions(family byte, exprs []expr.Any, indexOf func(name string) (int, error)) (*nl.RtAttr, error) {
	list := nl.NewRtAttr(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, nil)
	add := func(e expr.Any) error {
		data, err := expr.Marshal(family, e)
		if err != nil {
			return err
		}
		list.AddRtAttr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, data)
		return nil
	}
	for _, e := range exprs {
		if p, is := e.(*expr.Payload); is && p.OperationType == expr.PayloadWrite {
			list.AddChild(encodeWrite(p))
			continue
		}
		f, ours := e.(*plan.Forward)
		if !ours {
			if err := add(e); err != nil {
				return nil, err
			}
			continue
		}
		index, err := indexOf(f.To)
		if err != nil {
			return nil, err
		}
		if err := add(&expr.Immediate{Register: 1, Data: nl.Uint32Attr(uint32(index))}); err != nil {
			return nil, err
		}
		name, attribute := "fwd", fwdFromRegister
		if f.Copy {
			name, attribute = "dup", dupFromRegister
		}
		element := nl.NewRtAttr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, nil)
		element.AddRtAttr(unix.NFTA_EXPR_NAME, nl.ZeroTerminated(name))
		element.AddRtAttr(unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED, nil).AddRtAttr(attribute, nl.BEUint32Attr(1))
		list.AddChild(element)
	}
	return list, nil
}

// encodeWrite writes what replaces a part of a packet. The library leaves out the flags where there is no checksum of the
// network header, as IPv6 has none, and those of the transport header would be wrong.
func encodeWrite(p *expr.Payload) *nl.RtAttr {
	element := nl.NewRtAttr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, nil)
	element.AddRtAttr(unix.NFTA_EXPR_NAME, nl.ZeroTerminated("payload"))
	data := element.AddRtAttr(unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED, nil)
	for _, attribute := range []struct {
		kind  int
		value uint32
	}{
		{unix.NFTA_PAYLOAD_SREG, p.SourceRegister}, {unix.NFTA_PAYLOAD_BASE, uint32(p.Base)},
		{unix.NFTA_PAYLOAD_OFFSET, p.Offset}, {unix.NFTA_PAYLOAD_LEN, p.Len},
		{unix.NFTA_PAYLOAD_CSUM_TYPE, uint32(p.CsumType)}, {unix.NFTA_PAYLOAD_CSUM_OFFSET, p.CsumOffset},
		{unix.NFTA_PAYLOAD_CSUM_FLAGS, p.CsumFlags},
	} {
		data.AddRtAttr(attribute.kind, nl.BEUint32Attr(attribute.value))
	}
	return element
}

// expressions are the library's that our rules have, by the kernel's names.
var expressions = map[string]func() expr.Any{
	"bitwise":   func() expr.Any { return &expr.Bitwise{} },
	"cmp":       func() expr.Any { return &expr.Cmp{} },
	"counter":   func() expr.Any { return &expr.Counter{} },
	"exthdr":    func() expr.Any { return &expr.Exthdr{} },
	"immediate": func() expr.Any { return &expr.Immediate{} },
	"meta":      func() expr.Any { return &expr.Meta{} },
	"payload":   func() expr.Any { return &expr.Payload{} },
	"range":     func() expr.Any { return &expr.Range{} },
	"reject":    func() expr.Any { return &expr.Reject{} },
}

// decodeExpressions reads them, given the name of a link by its index; "" where there is none.
func decodeExpressions(family byte, list []byte, nameOf func(index int) string) (exprs []expr.Any, err error) {
	elements, err := attributes(list)
	if err != nil {
		return nil, err
	}
	for _, element := range elements.all {
		parts, err := attributes(element)
		if err != nil {
			return nil, err
		}
		name, data := text(parts.get(unix.NFTA_EXPR_NAME)), parts.get(unix.NFTA_EXPR_DATA)
		if name == "fwd" || name == "dup" {
			// In front of it is the index, in the register that it takes it from.
			if f := decodeForward(name, data, exprs, nameOf); f != nil {
				exprs[len(exprs)-1] = f
				continue
			}
		}
		e, err := decodeExpression(family, name, data)
		if err != nil {
			return nil, fmt.Errorf("decode nftables' expression %s: %w", name, err)
		}
		exprs = append(exprs, e)
	}
	return exprs, nil
}

func decodeExpression(family byte, name string, data []byte) (expr.Any, error) {
	made, known := expressions[name]
	if !known {
		return &plan.Unknown{Name: name}, nil
	}
	e := made()
	if err := expr.Unmarshal(family, data, e); err != nil {
		return nil, err
	}
	if i, ok := e.(*expr.Immediate); ok && i.Register == unix.NFT_REG_VERDICT && len(i.Data) == 0 {
		e = &expr.Verdict{}
		return e, expr.Unmarshal(family, data, e)
	}
	return e, nil
}

func decodeForward(name string, data []byte, before []expr.Any, nameOf func(int) string) *plan.Forward {
	attrs, err := attributes(data)
	if err != nil || len(before) == 0 {
		return nil
	}
	f := &plan.Forward{Copy: name == "dup"}
	register := attrs.get(fwdFromRegister)
	if f.Copy {
		register = attrs.get(dupFromRegister)
	}
	i, ok := before[len(before)-1].(*expr.Immediate)
	if !ok || len(i.Data) != 4 || len(register) != 4 || i.Register != binary.BigEndian.Uint32(register) {
		return nil
	}
	f.Index = int(u32(i.Data))
	f.To = nameOf(f.Index)
	return f
}
