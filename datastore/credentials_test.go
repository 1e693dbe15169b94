package datastore

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

// The certificates of a whole cluster are replaced, those of its authority too, while it is written to and watched.
func TestTheCertificatesOfAClusterAreReplaced(t *testing.T) {
	t.Parallel()
	f, before := etcdlab.Certificates{Dir: t.TempDir()}, etcdlab.NewAuthority(t)
	before.Write(t, f.Path("ca"))
	f.Issue(t, before)
	o := f.Options()
	o.Admin.Username, o.Admin.Password = "root", "secret"
	e := &exercise{T: t, Cluster: etcdlab.StartCluster(t, o)}
	etcdlab.EnableAuth(t, e.Members[0].Client(t), "secret")
	log, lines := test.NewNullLogger()
	e.config = etcd.Config{CAFile: f.Path("ca"), CertFile: f.Path("client"), KeyFile: f.Path("client-key")}
	e.config.Username, e.config.Password, e.config.Log = "root", "secret", logrus.NewEntry(log)
	e.begin()

	after := etcdlab.NewAuthority(t)
	after.Write(t, f.Path("new"))
	appendFile(t, f.Path("ca"), f.Path("new"))
	e.restartEach("both authorities are trusted")

	f.Issue(t, after)
	whole, err := os.ReadFile(f.Path("client-key"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, f.Path("client-key"), whole[:len(whole)/2])
	e.Members[0].Restart(t)
	e.settle("the key is half written")
	e.consumer.until("somebody says that "+f.Path("client-key")+" is damaged", func() bool {
		return slices.ContainsFunc(lines.AllEntries(), func(entry *logrus.Entry) bool {
			problem := fmt.Sprint(entry.Data[logrus.ErrorKey])
			return strings.Contains(entry.Message, "the ones read before stay in use") && strings.Contains(problem, f.Path("client-key"))
		})
	})
	writeFile(t, f.Path("client-key"), whole)

	after.Write(t, f.Path("ca"))
	e.restartEach("only the new authority is trusted")
	e.finish(1)
}

// restartEach restarts the members, one after the other.
func (e *exercise) restartEach(why string) {
	e.Helper()
	for _, m := range e.Members {
		m.Restart(e)
		e.settle(why)
	}
}

func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func appendFile(t *testing.T, path, more string) {
	t.Helper()
	var whole []byte
	for _, part := range []string{path, more} {
		text, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, text...)
	}
	writeFile(t, path, whole)
}

func TestTokensOfAClusterExpire(t *testing.T) {
	onEveryVersion(t, func(t *testing.T, o etcdlab.Options) {
		t.Parallel()
		o.Arguments, o.Admin = []string{"--auth-token-ttl=1"}, clientv3.Config{Username: "root", Password: "secret"}
		e := &exercise{T: t, Cluster: etcdlab.StartCluster(t, o), config: etcd.Config{Username: "root", Password: "secret"}}
		etcdlab.EnableAuth(t, e.Members[0].Client(t), "secret")
		e.begin()
		for range 2 {
			resume := e.writers.pause()
			lab.LetPass(3 * time.Second) // tokens that nobody uses live for one
			resume()
			e.settle("the tokens have expired")
			e.watched().Restart(t) // the next stream needs a token too
			e.settle("the watch goes on elsewhere")
		}
		e.finish(1)
	})
}
