package bgp

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/sirupsen/logrus"
)

// journal is GoBGP's logger. GoBGP logs much, mostly about single messages, so journal writes each line one or two levels lower.
// It also keeps the last error of each session for operators, which GoBGP offers nowhere else. Speaker logs sessions that go up
// and down.
//
// GoBGP's goroutines call it, also while a call into GoBGP waits. It takes no lock but its own.
type journal struct {
	log *logrus.Entry

	mu          sync.Mutex
	last        map[string]failure // by the peer's address
	unprotected map[string]error   // by the peer's address: the listener did not take its password
}

func newJournal(log *logrus.Entry) *journal {
	return &journal{log: log, last: map[string]failure{}, unprotected: map[string]error{}}
}

// passwordError says why the listener did not take the password of a peer. It is nil if it did.
func (j *journal) passwordError(a netip.Addr) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.unprotected[a.String()]
}

func (j *journal) lastError(a netip.Addr) failure {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last[a.String()]
}

func (j *journal) forget(a netip.Addr) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.last, a.String())
	delete(j.unprotected, a.String())
}

// keep replaces the last error of a session. A vague one does not replace a clear one for a while: after an error, many routers close
// further connections without a word for up to five minutes.
func (j *journal) keep(key string, f failure) {
	if f.Text == "" {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if last := j.last[key]; f.vague && last.Text != "" && !last.vague && f.At.Sub(last.At) < 5*time.Minute {
		return
	}
	j.last[key] = f
}

func (j *journal) write(level logrus.Level, msg string, fields gobgplog.Fields) {
	if key, ok := fields["Key"].(string); ok {
		j.keep(key, failure{Text: failureText(msg, fields), At: time.Now()})
		j.keep(key, failure{Text: refusalCause(msg, fields), At: time.Now(), vague: true})
	}
	if j.log.Logger.IsLevelEnabled(level) {
		j.log.WithFields(logrus.Fields(fields)).Log(level, "gobgp: "+msg)
	}
}

// failureText explains a message of GoBGP to an operator, if it tells of a failure of a session. Otherwise it is empty.
func failureText(msg string, fields gobgplog.Fields) string {
	switch msg {
	case "failed to connect":
		return connectCause(fields)
	case "Mismatched local address":
		return fmt.Sprintf("the peer connects to %v, but this session's source address is %v", fields["Addr"], fields["Configured addr"])
	case "Peer Down":
		return downCause(fmt.Sprint(fields["Reason"]))
	case "hold timer expired":
		return "hold timer expired: the peer has sent nothing"
	case "received notification":
		return "the peer ended the session: " + notification(fields)
	case "sent notification":
		if why, _ := fields["Communicated-Reason"].(string); why != "" {
			return why // our own, see reset
		}
		return "session refused: " + notification(fields)
	case "failed to unset md5":
		return fmt.Sprintf("take the former password off the listener: %v; restart felix", fields["Err"])
	}
	return ""
}

func notification(fields gobgplog.Fields) string {
	code, ok := fields["Code"].(uint8)
	subcode, ok2 := fields["Subcode"].(uint8)
	if ok && ok2 {
		text := cause(code, subcode)
		if reason, _ := fields["Communicated-Reason"].(string); reason != "" {
			text += ": " + reason
		}
		return text
	}
	if e, ok := fields["Data"].(*bgp.MessageError); ok {
		return cause(e.TypeCode, e.SubTypeCode) + ": " + e.Message
	}
	return fmt.Sprint(fields["Data"])
}

// Panic and Fatal are called for bugs of GoBGP. The process ends as in any other crash: peers keep our routes until the next
// process takes over. An exit would hide the stack.
func (j *journal) Panic(msg string, fields gobgplog.Fields) {
	j.write(logrus.ErrorLevel, msg, fields)
	panic(fmt.Sprintf("gobgp: %s %v", msg, fields))
}

func (j *journal) Fatal(msg string, fields gobgplog.Fields) { j.Panic(msg, fields) }

func (j *journal) Error(msg string, fields gobgplog.Fields) { j.write(logrus.WarnLevel, msg, fields) }

func (j *journal) Warn(msg string, fields gobgplog.Fields) {
	if key, ok := fields["Key"].(string); ok && msg == "failed to set md5" {
		err, _ := fields["Err"].(error)
		j.mu.Lock()
		j.unprotected[key] = cmp.Or(err, errors.New("unknown error"))
		j.mu.Unlock()
	}
	j.write(logrus.DebugLevel, msg, fields)
}

func (j *journal) Info(msg string, fields gobgplog.Fields)  { j.write(logrus.DebugLevel, msg, fields) }
func (j *journal) Debug(msg string, fields gobgplog.Fields) { j.write(logrus.TraceLevel, msg, fields) }
func (j *journal) SetLevel(gobgplog.LogLevel)               {}

// GetLevel is debug, because GoBGP reports failed connections at no other level.
func (j *journal) GetLevel() gobgplog.LogLevel { return gobgplog.DebugLevel }
