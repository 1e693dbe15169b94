// Package classifier turns policies, sets and endpoints into the tables of the bit-vector classifier, and looks packets
// up in them as the BPF program does. It is pure: it writes to memory and to the Tables that it is given, and does no
// other I/O. It does not attach anything, knows no interface and decides no verdict: calc.Judge defines those.
//
//	     rule   r0   r1   r2   end        all rules of the node in one order, with gaps
//	     slot    1    2    7    9
//	             |    |    |    |
//	     mask    1    0    1    1         which of them judge this endpoint at this stage
//	&  source    1    1    1    1         one bit for each slot: does the class of the source address
//	&    dest    1    0    1    1         meet the rule's condition; likewise for the destination,
//	& service    0    1    1    1         the protocol with port or type, and the source port
//	             ------------------
//	             0    0    1    1         the lowest bit is the rule that decides: r2
//
// An address or point belongs to a class: the set of all atoms (sets, lists of nets, port ranges) that contain it. Each
// class has a vector, sparse in blocks of 4,096 slots. A dimension that a rule does not constrain, or only negatively,
// is wild for it. So a rule about a set needs writes only in the classes inside that set:
//
//	bits(class) = (wild | pos[class]) &^ veto[class]
//
// A change is safe at every moment because of the order of the writes:
//
//  1. Apply writes what no packet can see yet: slots that no mask has, their bits in every class, and new classes. Then
//     it moves addresses and points to the new classes, and makes new masks.
//  2. The caller writes all masks of an endpoint in one step: the commit.
//  3. Sweep notes which masks, slots and classes are unused now. It changes nothing that a program may still read.
//  4. Reuse, after a grace period, clears these and gives their numbers back.
//
// A policy takes effect endpoint by endpoint, each time as a whole. Members of a set join and leave address by address,
// at once. If a packet could see one change without the other (mix.go says when), the set gets another view (set.go):
// old rules go on seeing the old members, copies of the rules in other slots see the new members, and both changes take
// effect with the mask. So at every moment the masks of an endpoint give a packet, at all stages of a direction, the
// verdict of the state before the change or of the state behind it. When changes wait for each other, or fail in part,
// the verdict is that of one of the states since the last one that was completely in force.
//
// If something cannot be written, the endpoints that need it keep their former masks; a new endpoint is closed. The
// error is reported, the next Apply tries again, and everything else goes on. A change that does not fit into the tables
// fails in the same way, with an ErrFull.
//
// Start at classifier.go (the steps) and commit.go, then
//
//	merge.go, list.go, rules.go, profile.go   objects to lists of rules
//	order.go, window.go, slot.go              lists to slots
//	condition.go, interval.go, point.go, variant.go   rules to conditions
//	atom.go, class.go, set.go, mix.go         conditions to classes, and changes of sets
//	address.go, line.go                       the two kinds of dimensions
//	vector.go, mask.go, ruleset.go, endpoint.go   the bits, and which of them judge an endpoint
//	lookup.go                                 the program's search, in Go
package classifier
