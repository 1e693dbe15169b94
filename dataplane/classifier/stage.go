package classifier

import (
	"github.com/margay-project/margay/bpf/layout"
	"github.com/margay-project/margay/calc"
)

// kernelStage is a stage of the program: one of calc's stages in one direction.
type kernelStage struct {
	stage calc.Stage
	dir   calc.Direction
}

// stages are those of the program, by their number: the index in layout.Iface.Mask. There is none for PreDNAT on egress.
var stages = [layout.Stages]kernelStage{
	layout.StageNormalIn:     {calc.Normal, calc.Ingress},
	layout.StageNormalOut:    {calc.Normal, calc.Egress},
	layout.StageForwardIn:    {calc.Forward, calc.Ingress},
	layout.StageForwardOut:   {calc.Forward, calc.Egress},
	layout.StagePreDNATIn:    {calc.PreDNAT, calc.Ingress},
	layout.StageUntrackedIn:  {calc.Untracked, calc.Ingress},
	layout.StageUntrackedOut: {calc.Untracked, calc.Egress},
}

// KernelStage returns the number that the program gives to a stage in a direction; false if it has no such stage.
func KernelStage(stage calc.Stage, dir calc.Direction) (number int, ok bool) {
	for i, s := range stages {
		if s == (kernelStage{stage, dir}) {
			return i, true
		}
	}
	return 0, false
}

// StageOf is the inverse of KernelStage. It is false for a number that is no stage of an interface, such as
// layout.StageBornHere.
func StageOf(number int) (stage calc.Stage, dir calc.Direction, ok bool) {
	if number < 0 || number >= len(stages) {
		return 0, 0, false
	}
	return stages[number].stage, stages[number].dir, true
}
