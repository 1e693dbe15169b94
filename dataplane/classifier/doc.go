// Package classifier turns policies, sets and endpoints into the tables of the bit-vector classifier, and looks packets
// up in them as the BPF program does. It is pure: it writes to memory and to the Tables that it is given, and does no
// other I/O. It does not attach anything, knows no interface and decides no verdict: calc.Judge defines those.
//
//	     rule   r0   r1   r2   end        all rules of the node in one order, with gaps
//	     slot    1    2    7    9
//	             |    |    |    |
//	     mask    1    0    1    1         the rules that judge this endpoint at this stage
//	&  source    1    1    1    1         the rules whose condition the source address meets
//	&    dest    1    0    1    1         the rules whose condition the destination address meets
//	& service    0    1    1    1         the rules whose condition the protocol with port or type meets
//	             ------------------
//	             0    0    1    1         the lowest bit is the rule that decides: r2
//
// Each row has one bit for each slot. The rows below the mask are dimensions. The fourth dimension, which is not drawn, is
// the source port.
//
// An address or point belongs to a class: the set of all atoms (sets, lists of nets, port ranges) that contain it. The
// class gives the row of its dimension:
//
//	bits(class) = (wild | pos[class]) &^ veto[class]
//
//	wild          rules that ask for no membership in this dimension: they ask for nothing, or only exclude something
//	pos[class]    rules that ask for memberships here, if the class has all of them
//	veto[class]   rules that exclude something here to which the class belongs
//
// For example, a rule "from set A, not from set B" has its bit in pos of each class in A, and in veto of each class in B. A
// rule "not from set B" has its bit in wild, and in veto of each class in B. wild is the same for all classes. pos and veto
// are the vector of a class, sparse in blocks of 4,096 slots. Classes outside A and B get no bit of these rules, so a new
// rule needs writes only in the classes of the sets that it names.
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
// at once. If a packet could meet the new members with the old rules, or the reverse (mix.go says when), the set gets
// another view (set.go): old rules go on seeing the old members, copies of the rules in other slots see the new members,
// and both changes take effect with the mask. So at every moment the masks of an endpoint give a packet, at all stages of
// a direction, the verdict of the state before the change or of the state after it. When changes wait for each other, or
// fail in part, the verdict is that of one of the states since the last one that was completely in force.
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
