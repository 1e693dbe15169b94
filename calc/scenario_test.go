package calc

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/margay-project/margay/api"
)

// The result of a scenario depends neither on the order of its objects, nor on the state before.
func TestAScenarioEndsTheSameInAnyOrderOfUpdates(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/states/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	scenarios, wanted := map[string][]api.Update{}, map[string]string{}
	for _, file := range files {
		scenarios[file] = readObjects(t, file)
		wanted[file] = Compute("n1", scenarioFacts(), scenarios[file]).Text()
	}
	for _, file := range files {
		for name, batches := range arrivals(scenarios[file]) {
			p := newPlayer()
			for _, batch := range batches {
				p.play(batch)
			}
			p.expect(t, file+", "+name, wanted[file])
		}
	}
	for _, from := range files {
		for _, to := range files {
			p := newPlayer()
			p.play(scenarios[from])
			p.play(append(deletions(scenarios[from]), scenarios[to]...))
			p.expect(t, to+" after "+from, wanted[to])
			p.play(deletions(scenarios[to]))
			p.expect(t, "nothing after "+to, Compute("n1", scenarioFacts(), nil).Text())
		}
	}
}

// arrivals are orders in which the objects of a scenario arrive, as batches with a flush after each.
func arrivals(objects []api.Update) map[string][][]api.Update {
	one := func(all []api.Update) (batches [][]api.Update) { return slices.Collect(slices.Chunk(all, 1)) }
	reversed := slices.Clone(objects)
	slices.Reverse(reversed)
	shuffled := slices.Clone(objects)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	var doubled, restless []api.Update
	for _, u := range objects {
		doubled = append(doubled, u, u)
		restless = append(restless, u, api.Update{Key: u.Key}, u)
	}
	return map[string][][]api.Update{
		"squashed":          {objects},
		"one by one":        one(objects),
		"reversed":          {reversed},
		"reversed one by 1": one(reversed),
		"shuffled":          one(shuffled),
		"split":             slices.Collect(slices.Chunk(objects, 3)),
		"duplicated":        {doubled},
		"twice":             {objects, objects},
		"gone and back":     one(restless),
		"gone at once":      {restless},
	}
}

func deletions(objects []api.Update) (gone []api.Update) {
	for _, u := range objects {
		gone = append(gone, api.Update{Key: u.Key})
	}
	return gone
}

// player is a graph and the State that its deltas add up to.
type player struct {
	graph  *Graph
	folded *State
}

func newPlayer() player { return player{New("n1", scenarioFacts()), &State{}} }

func (p player) play(batch []api.Update) {
	for _, u := range batch {
		p.graph.Update(u)
	}
	p.folded.Fold(p.graph.Flush())
}

func (p player) expect(t *testing.T, what, want string) {
	t.Helper()
	if diff := cmp.Diff(want, p.folded.Text()); diff != "" {
		t.Errorf("%s: the state (+) is not the expected one (-):\n%s", what, diff)
	}
}
