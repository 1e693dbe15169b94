package api

import (
	"reflect"
	"strings"
	"sync"
)

// Kind describes a kind of object: its names on the command line and in the datastore.
type Kind struct {
	Name       string   // as objects write it, for example GlobalNetworkPolicy
	Plural     string   // the segment of the datastore's keys, for example globalnetworkpolicies; users may type it too
	Aliases    []string // further names that users may type, in lower case
	Namespaced bool
	ReadOnly   bool          // users may read the objects, and only tools write them
	New        func() Object // an empty object with its kind and version filled in
}

// Names of kinds, as objects and keys write them.
const (
	KindBGPConfiguration              = "BGPConfiguration"
	KindBGPFilter                     = "BGPFilter"
	KindBGPPeer                       = "BGPPeer"
	KindBlockAffinity                 = "BlockAffinity"
	KindCalicoNodeStatus              = "CalicoNodeStatus"
	KindClusterInformation            = "ClusterInformation"
	KindFelixConfiguration            = "FelixConfiguration"
	KindGlobalNetworkPolicy           = "GlobalNetworkPolicy"
	KindGlobalNetworkSet              = "GlobalNetworkSet"
	KindHostEndpoint                  = "HostEndpoint"
	KindIPAMBlock                     = "IPAMBlock"
	KindIPAMConfiguration             = "IPAMConfiguration"
	KindIPPool                        = "IPPool"
	KindIPReservation                 = "IPReservation"
	KindKubeControllersConfiguration  = "KubeControllersConfiguration"
	KindNetworkPolicy                 = "NetworkPolicy"
	KindNetworkSet                    = "NetworkSet"
	KindNode                          = "Node"
	KindProfile                       = "Profile"
	KindStagedGlobalNetworkPolicy     = "StagedGlobalNetworkPolicy"
	KindStagedKubernetesNetworkPolicy = "StagedKubernetesNetworkPolicy"
	KindStagedNetworkPolicy           = "StagedNetworkPolicy"
	KindTier                          = "Tier"
	KindWorkloadEndpoint              = "WorkloadEndpoint"
)

// Kinds is the table of kinds that users can name, in alphabetical order.
func Kinds() []Kind {
	return []Kind{
		kind[BGPConfiguration]("bgpconfigurations", "bgpconfig", "bgpconfigs"),
		kind[BGPFilter]("bgpfilters", "bgpf", "bgpfs", "bf", "bfs"),
		kind[BGPPeer]("bgppeers", "bgpp", "bgpps", "bp", "bps"),
		claimedBlocks(),
		kind[CalicoNodeStatus]("caliconodestatuses", "nodestatus", "nodestatuses"),
		readOnly(kind[ClusterInformation]("clusterinformations", "clusterinfo", "clusterinfos")),
		kind[FelixConfiguration]("felixconfigurations", "felixconfig", "felixconfigs"),
		kind[GlobalNetworkPolicy]("globalnetworkpolicies", "gnp", "gnps"),
		kind[GlobalNetworkSet]("globalnetworksets", "gnetset", "gnetsets"),
		kind[HostEndpoint]("hostendpoints", "hep", "heps"),
		kind[IPAMConfiguration]("ipamconfigurations", "ipamconfig", "ipamconfigs"),
		kind[IPPool]("ippools", "ipp", "ipps", "pool", "pools"),
		kind[IPReservation]("ipreservations", "reservation", "reservations"),
		kind[KubeControllersConfiguration]("kubecontrollersconfigurations", "kubecontrollersconfig", "kubecontrollersconfigs"),
		namespaced(kind[NetworkPolicy]("networkpolicies", "np", "nps", "policy", "policies", "pol", "pols")),
		namespaced(kind[NetworkSet]("networksets", "netset", "netsets")),
		kind[Node]("nodes", "no"),
		kind[Profile]("profiles", "pro", "pros"),
		kind[StagedGlobalNetworkPolicy]("stagedglobalnetworkpolicies", "sgnp", "sgnps"),
		namespaced(kind[StagedKubernetesNetworkPolicy]("stagedkubernetesnetworkpolicies",
			"sknp", "stagedkubernetespolicy", "stagedkubernetespolicies", "skpol", "skpols")),
		namespaced(kind[StagedNetworkPolicy]("stagednetworkpolicies", "snp", "stagedpolicy", "stagedpolicies", "spol", "spols")),
		kind[Tier]("tiers"),
		namespaced(kind[WorkloadEndpoint]("workloadendpoints", "wep", "weps")),
	}
}

// internalKinds are kinds that no user names. IPAM keeps their objects under keys outside of the tree of other objects.
func internalKinds() []Kind {
	return []Kind{kind[BlockAffinity](""), kind[IPAMBlock]("")}
}

func kind[T any, P interface {
	*T
	Object
}](plural string, aliases ...string) Kind {
	name := typeName(P(new(T)))
	return Kind{Name: name, Plural: plural, Aliases: aliases, New: func() Object {
		o := P(new(T))
		*o.Type() = TypeMeta{Kind: name, APIVersion: APIVersion}
		return o
	}}
}

func readOnly(k Kind) Kind   { k.ReadOnly = true; return k }
func namespaced(k Kind) Kind { k.Namespaced = true; return k }

// KindOf finds a kind by its name, plural or an alias, in upper or lower case.
func KindOf(name string) (Kind, bool) {
	k, ok := kindsByWord()[strings.ToLower(name)]
	return k, ok
}

// kindsByWord holds the kinds by name, plural and alias, in lower case. It is built once, because every object needs it, and
// never changes.
var kindsByWord = sync.OnceValue(func() map[string]Kind {
	words := map[string]Kind{}
	for _, k := range Kinds() {
		for _, word := range append([]string{strings.ToLower(k.Name), k.Plural}, k.Aliases...) {
			if _, taken := words[word]; !taken {
				words[word] = k
			}
		}
	}
	return words
})

func (k Kind) answersTo(lower string) bool {
	if lower == k.Plural || lower == strings.ToLower(k.Name) {
		return true
	}
	for _, a := range k.Aliases {
		if lower == a {
			return true
		}
	}
	return false
}

// New returns an empty object of a kind. kind is the exact name, as objects write it; internal kinds are included.
func New(kind string) (Object, bool) {
	k, ok := kindsByName()[kind]
	if !ok {
		return nil, false
	}
	return k.New(), true
}

// kindsByName holds the kinds by their exact name, BlockAffinity in its stored form. It is built once, because objects are
// created often, and never changes.
var kindsByName = sync.OnceValue(func() map[string]Kind {
	named := map[string]Kind{}
	for _, k := range append(Kinds(), internalKinds()...) {
		named[k.Name] = k
	}
	return named
})

// ForeignKinds returns kinds that Calico has and Margay does not support. Errors call them "not supported" instead of "unknown".
func ForeignKinds() []Kind {
	return []Kind{
		{Name: "LiveMigration", Plural: "livemigrations", Namespaced: true},
	}
}

// ForeignKindOf finds a kind that Calico has and Margay does not support.
func ForeignKindOf(name string) (Kind, bool) {
	name = strings.ToLower(name)
	for _, k := range ForeignKinds() {
		if k.answersTo(name) {
			return k, true
		}
	}
	return Kind{}, false
}

// typeName returns the name of an object's Go type. It is the name of the kind, except for ClaimedBlock.
func typeName(o Object) string { return reflect.TypeOf(o).Elem().Name() }
