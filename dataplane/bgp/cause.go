package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"golang.org/x/sys/unix"
)

// cause explains a NOTIFICATION by its code and subcode (RFC 4271, section 4.5; RFC 4486), with what to do where that is known.
func cause(code, subcode uint8) string {
	number := bgp.NewNotificationErrorCode(code, subcode)
	switch code {
	case bgp.BGP_ERROR_OPEN_MESSAGE_ERROR:
		switch subcode {
		case bgp.BGP_ERROR_SUB_BAD_PEER_AS:
			return "bad peer AS: the two ends do not agree on an AS number; correct asNumber of the BGPPeer or of the Node, or the peer's settings"
		case bgp.BGP_ERROR_SUB_BAD_BGP_IDENTIFIER:
			return "bad router id: both ends have the same one, or it is 0; give every node and router its own"
		case bgp.BGP_ERROR_SUB_UNACCEPTABLE_HOLD_TIME:
			return "unacceptable hold time: set one of at least 3 s on both ends"
		}
	case bgp.BGP_ERROR_HOLD_TIMER_EXPIRED:
		return "hold timer expired: nothing arrived for the hold time"
	case bgp.BGP_ERROR_CEASE:
		if text := ceaseCause(subcode); text != "" {
			return text
		}
	}
	return number.String()
}

func ceaseCause(subcode uint8) string {
	switch subcode {
	case bgp.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED:
		return "more routes than the limit of prefixes allows: announce fewer, or raise the limit"
	case bgp.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN:
		return "shut down by its operator"
	case bgp.BGP_ERROR_SUB_PEER_DECONFIGURED:
		return "the session was removed from the configuration"
	case bgp.BGP_ERROR_SUB_ADMINISTRATIVE_RESET:
		return "reset by an operator"
	case bgp.BGP_ERROR_SUB_CONNECTION_REJECTED:
		return "connection rejected: the sender has no such session, or does not accept it now"
	case bgp.BGP_ERROR_SUB_OTHER_CONFIGURATION_CHANGE:
		return "its configuration has changed"
	case bgp.BGP_ERROR_SUB_CONNECTION_COLLISION_RESOLUTION:
		return "two connections at once, one of which is closed"
	case bgp.BGP_ERROR_SUB_OUT_OF_RESOURCES:
		return "out of resources"
	}
	return ""
}

// connectCause explains why there is no connection. The kernel's errors about a link-local address say little.
func connectCause(fields gobgplog.Fields) string {
	err, _ := fields["Error"].(error)
	a, notAddress := netip.ParseAddr(fmt.Sprint(fields["Key"]))
	if notAddress == nil && a.Zone() != "" &&
		(errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EADDRNOTAVAIL)) {
		return fmt.Sprintf("connect: interface %s does not exist, is down, or has no link-local address: %v", a.Zone(), err)
	}
	return fmt.Sprintf("connect: %v", fields["Error"])
}

// downCause explains why GoBGP says that a session went down. It is empty if the journal has a better text already: that of the
// NOTIFICATION.
func downCause(reason string) string {
	switch reason {
	case "read-failed":
		return "the connection ended without a message: the peer's BGP process or host is down, or something between closed it"
	case "write-failed":
		return "a message could not be sent: the connection is broken"
	case "hold-timer-expired":
		return "hold timer expired: the peer has sent nothing for the hold time"
	case "graceful-restart":
		return "the peer restarts: its routes stay in use for its restart time"
	case "restart-timer-expired":
		return "the peer did not come back within its restart time"
	}
	return ""
}

// refusalCause explains an attempt that ended before the session was established, and about which GoBGP logs only the change of state.
// It does not keep a NOTIFICATION that arrives in these states.
func refusalCause(msg string, fields gobgplog.Fields) string {
	if msg != "state changed" || fields["new"] != "BGP_FSM_IDLE" {
		return ""
	}
	reason := fmt.Sprint(fields["reason"])
	switch old := fields["old"]; {
	case old == "BGP_FSM_OPENCONFIRM" && reason == "invalid-msg":
		return "the peer refused this node's OPEN message: does it expect another AS number, or has it the same router id? Its log says which"
	case old == "BGP_FSM_OPENSENT" && (reason == "invalid-msg" || reason == "read-failed"):
		return "the peer closed the connection before its OPEN message: it has no session with this node's address, or waits after an error. Its log says which"
	case old == "BGP_FSM_OPENCONFIRM" && reason == "read-failed":
		return "the peer closed the connection after this node's OPEN message. Its log says why"
	}
	return ""
}

// waiting says in words what a session that is not established is doing. It is empty for an established one.
func waiting(s session, state string) string {
	switch state {
	case established:
		return ""
	case "Connect", "Active":
		if s.Interface != "" {
			return fmt.Sprintf("felix waits for the workload to connect to %v, which its egress policy must allow", s.Source)
		}
		if s.Passive {
			return "felix waits for the peer to connect: this node is the passive end"
		}
		return fmt.Sprintf("felix connects to port %d of the peer every few seconds", s.Port)
	case "OpenSent":
		return "connected; the peer has not sent its OPEN yet"
	case "OpenConfirm":
		return "felix waits for the peer's first keepalive"
	}
	return fmt.Sprintf("felix pauses for about %d s before the next attempt", idleHold)
}

// notEstablished says why a session is not established: its last error and what it is doing.
func notEstablished(s session, state string, last failure) string {
	doing := waiting(s, state)
	if doing == "" {
		return ""
	}
	if strings.Contains(last.Text, "timeout") || last.Text == "" {
		doing += silentDrops(s)
	}
	if last.Text == "" {
		return doing
	}
	return last.Text + "; " + doing
}

// silentDrops names the settings because of which a kernel drops packets without an answer: no log of BGP tells of them.
func silentDrops(s session) string {
	text := ""
	if s.Password != "" {
		text += "; if the peer runs, it has another password or none"
	}
	if s.MinTTL > 0 {
		text += fmt.Sprintf("; if the peer runs, it is more than %d hops away, or does not send with a TTL of 255 (ttlSecurity)", 256-int(s.MinTTL))
	}
	return text
}
