package sla

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed report.html
var reportHTML string

var reportTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"achieved":    formatAchieved,
	"budget":      formatBudget,
	"destination": formatDestination,
	"duration":    formatDuration,
	"failures":    formatFailures,
	"latency":     formatLatency,
	"met":         formatMet,
	"objective":   formatObjective,
	"percent":     formatPercent,
	"results":     func(rep Report) []Result { return append([]Result{rep.Total}, rep.Endpoints...) },
	"step":        formatStep,
	"time":        formatTime,
	"who":         formatWho,
}).Parse(reportHTML))

// WriteHTML writes the report as a self-contained HTML page without scripts, styled for
// print too.
func (rep Report) WriteHTML(w io.Writer) error {
	if err := reportTemplate.Execute(w, rep); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
}
