package calc

import (
	"errors"
	"net/netip"

	"github.com/margay-project/margay/api"
)

// Password says where the agent finds the password of a session. At most one source is set; none means a session without a password.
type Password struct {
	Secret, Key string // the file SECRET/KEY in the agent's directory of secrets
	File        string // an absolute path
	Env         string // an environment variable of the agent
}

// IsSet says whether the session has a password.
func (p Password) IsSet() bool { return p != Password{} }

func (p Password) String() string {
	switch {
	case p.File != "":
		return "file " + p.File
	case p.Env != "":
		return "environment variable " + p.Env
	case p.IsSet():
		return "secret " + p.Secret + "/" + p.Key
	}
	return "none"
}

func (p Password) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// readPassword reads where a password is. A password that names no source is an error: it never means none.
func readPassword(spec *api.BGPPassword) (Password, error) {
	switch {
	case spec == nil:
		return Password{}, nil
	case spec.SecretKeyRef != nil && spec.SecretKeyRef.Name != "" && spec.SecretKeyRef.Key != "":
		return Password{Secret: spec.SecretKeyRef.Name, Key: spec.SecretKeyRef.Key}, nil
	case spec.SecretKeyRef != nil:
		return Password{}, errors.New("secretKeyRef needs a name and a key")
	case spec.FromFile != "":
		return Password{File: spec.FromFile}, nil
	case spec.FromEnv != "":
		return Password{Env: spec.FromEnv}, nil
	}
	return Password{}, errors.New("the password has no source: give secretKeyRef, fromFile or fromEnv")
}

// candidate is a session by a BGPPeer. At most one of the candidates for an address and port is used.
type candidate struct {
	key    api.Key
	global bool
	spec   api.BGPPeerSpec
	peer   Peer
}

// withoutPlainer leaves out candidates without a password for an address for which another BGPPeer gives a password, and all
// candidates for an address for which another BGPPeer asks for what is not possible. Otherwise the peer of the other BGPPeer, or
// who takes its address, would get a session without its conditions.
func (r *bgpReader) withoutPlainer(all []candidate) (list []candidate) {
	owner := map[netip.Addr]string{} // the first BGPPeer that gives a password
	for _, c := range all {
		if c.peer.Password.IsSet() && owner[c.peer.Address] == "" {
			owner[c.peer.Address] = c.key.Name
		}
	}
	noted := map[string]bool{}
	for _, c := range all {
		at := c.peer.Address
		why := ""
		switch by := owner[at]; {
		case r.refused[at] != "" && r.refused[at] != c.key.Name:
			why = "BGPPeer(" + r.refused[at] + ") is for %v too and is left out, so there is no session by this one either: correct or remove one of them"
		case by != "" && !c.peer.Password.IsSet():
			why = "BGPPeer(" + by + ") has a password for %v, so there is no session without one: give both the same password, or remove one of them"
		}
		if why == "" {
			list = append(list, c)
		} else if !noted[c.key.Name] {
			noted[c.key.Name] = true
			r.note(c.key, why, at)
		}
	}
	return list
}
