package api

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

type recorded struct {
	ID, Note, Manifest, Error string
	Valid                     bool
}

// accepted says whether a manifest would be stored, and why not.
func accepted(manifest string) (bool, string) {
	objects, err := Decode([]byte(manifest))
	if err != nil {
		return false, err.Error()
	}
	if len(objects) == 0 {
		return false, "no objects"
	}
	for _, o := range objects {
		Default(o)
		if err := Validate(o); err != nil {
			return false, err.Error()
		}
	}
	return true, ""
}

func TestRecordedVerdictsOnManifests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/validate.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	differ, agree := disagreements(), 0
	for line := range strings.Lines(string(text)) {
		var r recorded
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		valid, reason := accepted(r.Manifest)
		why, known := differ[r.Note]
		switch {
		case valid == r.Valid && known:
			t.Errorf("%s (%s): agrees, although %s", r.ID, r.Note, why)
		case valid == r.Valid:
			agree++
		case !known:
			t.Errorf("%s (%s): recorded %v (%.200s), ours %v: %s", r.ID, r.Note, r.Valid, r.Error, valid, reason)
		}
	}
	t.Logf("%d recorded verdicts agree, %d differ on purpose", agree, len(differ))
}

// disagreements are manifests that we judge otherwise, and why.
func disagreements() map[string]string {
	const (
		store   = "what else is in the store is judged by the store"
		anyCase = "we accept names of protocols in any case"
		bare    = "we accept an address as a network of one"
		both    = "we accept both families in one rule; each packet is of one"
		ports   = "we accept ports without a protocol: every protocol that has ports"
		large   = "we accept AS numbers of 32 bits everywhere"
		rule    = "GlobalNetworkPolicy: ingress rule: "
	)
	return map[string]string{
		"Tier: built-in default with right values":                           store,
		"Tier: resource version set":                                         store,
		"GlobalNetworkPolicy: tier missing in store":                         store,
		"GlobalNetworkPolicy: tier number":                                   store,
		"StagedGlobalNetworkPolicy: tier missing in store":                   store,
		"NetworkPolicy: name knp.default.x":                                  store,
		"NetworkPolicy: name knp.default.a.b":                                store,
		"Profile: name of built-in":                                          store,
		"BGPPeer: filter missing in store":                                   store,
		"documents: comment only document":                                   "we skip a document that says nothing, with comments as without",
		"GlobalNetworkPolicy: domains is not a field":                        "we have domains",
		rule + "protocol 'tcp'":                                              anyCase,
		rule + "protocol 'Tcp'":                                              anyCase,
		"HostEndpoint: port lower case protocol":                             anyCase,
		rule + "source nets v4 bare address":                                 bare,
		"GlobalNetworkPolicy: egress rule: destination notNets bare address": bare,
		rule + "source nets mixed families":                                  both,
		rule + "nets v4 with other side v6":                                  both,
		rule + "nets v4 with notNets v6":                                     both,
		rule + "numeric port with protocol None":                             ports,
		rule + "mixed named and numeric without protocol":                    ports,
		rule + "ports with notProtocol only":                                 ports,
		"WorkloadEndpoint: name derived when absent":                         "we derive the name always, as creating does there",
		"BGPConfiguration: as number over signed range":                      large,
		"BGPPeer: as number over signed range":                               large,
		"FelixConfiguration: duration '1.5s'":                                "we accept what durations mean",
	}
}
