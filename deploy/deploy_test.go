// Package deploy has no code: what stands beside it is for those who run an engine, and its tests hold it against the engine.
package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// rule is an alert.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alerts(t *testing.T) []rule {
	t.Helper()
	text, err := os.ReadFile("prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&file); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// ruleTests are the files of promtool's tests.
var ruleTests = []string{"prometheus/alerts_test.yml", "prometheus/alerts_days_test.yml"}

// TestAlertsFireAndClear lets Prometheus' own tool judge the rules.
func TestAlertsFireAndClear(t *testing.T) {
	tool, err := exec.Command("../scripts/promtool").Output()
	if err != nil {
		t.Fatal("promtool is not there: run scripts/deps test")
	}
	promtool := strings.TrimSpace(string(tool))
	if out, err := exec.Command(promtool, "check", "rules", "prometheus/alerts.yml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.Command(promtool, append([]string{"test", "rules"}, ruleTests...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestEveryAlertIsSeenToFireAndToClear: promtool does not ask for it.
func TestEveryAlertIsSeenToFireAndToClear(t *testing.T) {
	seen := map[string]bool{}
	for _, path := range ruleTests {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Tests []struct {
				Looks []struct {
					Expr    string `yaml:"expr"`
					Samples []struct {
						Labels string  `yaml:"labels"`
						Value  float64 `yaml:"value"`
					} `yaml:"exp_samples"`
				} `yaml:"promql_expr_test"`
			} `yaml:"tests"`
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		for _, test := range file.Tests {
			firing := map[string]bool{}
			for _, look := range test.Looks {
				if !strings.Contains(look.Expr, `ALERTS{alertstate="firing"}`) {
					t.Fatalf("%s: %q does not look at what fires", path, look.Expr)
				}
				now := map[string]bool{}
				for _, s := range look.Samples {
					now[s.Labels] = true
				}
				for alert := range firing {
					if !now[alert] {
						seen[alert] = true // it has fired before, and has cleared
					}
				}
				firing = now
			}
		}
	}
	for _, r := range alerts(t) {
		want := fmt.Sprintf(`{alertname=%q, severity=%q}`, r.Alert, r.Labels["severity"])
		if p := r.Labels["percent"]; p != "" {
			want = fmt.Sprintf(`{alertname=%q, severity=%q, percent=%q}`, r.Alert, r.Labels["severity"], p)
		}
		if !seen[want] {
			t.Errorf("no test sees %s fire, and clear after that", want)
		}
	}
}

// TestAlertsSayWhatToDo: each has a severity, a summary, and a place in the runbook.
func TestAlertsSayWhatToDo(t *testing.T) {
	for _, r := range alerts(t) {
		if !slices.Contains([]string{"info", "warning", "critical"}, r.Labels["severity"]) {
			t.Errorf("%s: the severity is %q", r.Alert, r.Labels["severity"])
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Annotations["runbook"] != "docs/runbook.md#"+strings.ToLower(r.Alert) {
			t.Errorf("%s: its annotations are %v", r.Alert, r.Annotations)
		}
	}
}

// panel is one of a dashboard.
type panel struct {
	Title   string `json:"title"`
	Targets []struct {
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
	} `json:"targets"`
	Panels []panel `json:"panels"`
}

type dashboard struct {
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Type  string `json:"type"`
			Query string `json:"query"`
		} `json:"list"`
	} `json:"templating"`
}

// expressions lists all that is asked of Prometheus, by where it stands.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, r := range alerts(t) {
		all["alert "+r.Alert+" "+r.Labels["percent"]] = r.Expr
		for _, l := range legendLabels(r.Annotations["summary"] + r.Annotations["description"]) {
			if l == "$value" {
				continue
			}
			name, ok := strings.CutPrefix(l, "$labels.")
			if !ok {
				t.Errorf("alert %s: {{ %s }} is no label", r.Alert, l)
			}
			all["alert "+r.Alert+" "+r.Labels["percent"]+" says "+name] = fmt.Sprintf("count by (%s) (%s)", name, r.Expr)
		}
	}
	text, err := os.ReadFile("grafana/pollux.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	var walk func(list []panel)
	walk = func(list []panel) {
		for _, p := range list {
			for i, target := range p.Targets {
				all[fmt.Sprintf("panel %s %d", p.Title, i)] = target.Expr
			}
			walk(p.Panels)
		}
	}
	walk(d.Panels)
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(v.Query)
			if m == nil {
				t.Errorf("variable %s: %q is no label_values", v.Name, v.Query)
				continue
			}
			all["variable "+v.Name] = fmt.Sprintf("count by (%s) (%s)", m[2], m[1])
		}
	}
	return all
}

func legendLabels(s string) []string {
	var list []string
	for _, m := range regexp.MustCompile(`\{\{\s*([^\s}]+)[^}]*\}\}`).FindAllStringSubmatch(s, -1) {
		list = append(list, m[1])
	}
	return list
}

// grafana are the variables that Grafana fills in.
var grafana = strings.NewReplacer("$__rate_interval", "1m", "$pool", ".*", "$volume", ".*")

// ofPrometheus are what Prometheus itself adds: a series of its own, and labels of every series.
var (
	ofPrometheus       = map[string]metric{"up": {kind: dto.MetricType_GAUGE, values: map[string]map[string]bool{}}}
	labelsOfPrometheus = []string{"job", "instance"}
)

// TestWhatIsAskedForExists holds every alert and every panel against a running engine: names, labels, and the labels' values. And no
// counter is looked at but by its growth.
func TestWhatIsAskedForExists(t *testing.T) {
	scrape := scrapeEngine(t)
	for name, m := range ofPrometheus {
		scrape[name] = m
	}
	asked := 0
	for where, expr := range expressions(t) {
		for _, wrong := range judge(scrape, expr) {
			t.Errorf("%s: %s", where, wrong)
		}
		asked++
	}
	if asked < 40 {
		t.Errorf("only %d expressions were found", asked)
	}
}

// notShown are the metrics that neither an alert nor a panel asks for.
var notShown = strings.Fields(`
	pollux_build_info pollux_reactor_asleep_seconds_total pollux_reactor_sleeps_total pollux_reactor_ring_enters_total pollux_reactor_completions_total
	pollux_reactor_messages_total pollux_reactor_longest_turn_seconds pollux_reactor_slow_turn_seconds pollux_bdev_bytes_total pollux_bdev_in_flight
	pollux_bdev_size_bytes pollux_iscsi_logins_total pollux_volume_size_bytes pollux_volume_allocated_bytes pollux_volume_log_records_total
	pollux_volume_log_flushes_total pollux_volume_log_payload_bytes_total pollux_volume_scrub_passes_total pollux_volume_scrub_errors_total
	pollux_volume_scrub_seconds_total pollux_volume_scrub_position_bytes pollux_pool_fill pollux_pool_volumes pollux_pool_log_device_size_bytes
	pollux_pool_log_device_free_bytes pollux_pool_health
`)

// TestEveryMetricIsShownOrNamed: who adds a metric adds it to a panel or an alert, or to those that are not shown.
func TestEveryMetricIsShownOrNamed(t *testing.T) {
	text, err := os.ReadFile("../ctl/testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, expr := range expressions(t) {
		for _, name := range regexp.MustCompile(`\bpollux_\w+`).FindAllString(expr, -1) {
			shown[name] = true
		}
	}
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(pollux_\w+) \[`).FindAllSubmatch(text, -1) {
		name := string(m[1])
		known[name] = true
		if is := shown[name] || shown[name+"_count"]; is == slices.Contains(notShown, name) {
			t.Errorf("%s: it is shown: %t, and stands among those that are not: %t", name, is, !is)
		}
	}
	for _, name := range notShown {
		if !known[name] {
			t.Errorf("%s: there is no such metric", name)
		}
	}
}

// TestJudgeRefusesWhatItShould breaks each rule once.
func TestJudgeRefusesWhatItShould(t *testing.T) {
	scrape := map[string]metric{
		"a_total": {dto.MetricType_COUNTER, map[string]map[string]bool{"op": {"read": true}}},
		"a":       {dto.MetricType_GAUGE, map[string]map[string]bool{"op": {"read": true}}},
		"h_count": {dto.MetricType_HISTOGRAM, map[string]map[string]bool{}},
	}
	for expr, want := range map[string]string{
		`rate(a_total{op="read"}[1m]) > 0`: "",
		`a > 0`:                            "",
		`sum by (op, job) (a)`:             "",
		`b > 0`:                            "no metric b",
		`a{op="write"}`:                    `a has no op="write"`,
		`a{op=~"w.*|x"}`:                   `a has no op=~"w.*|x"`,
		`a{pool="p"}`:                      "a has no label pool",
		`sum by (pool) (a)`:                "by pool",
		`a_total > 0`:                      "a_total is a counter",
		`sum(a_total)`:                     "a_total is a counter",
		`max_over_time(a_total[1m]) > 0`:   "a_total is a counter",
		`h_count > 0`:                      "h_count is a counter",
		`increase(a[1m])`:                  "a is no counter",
		`a >`:                              "parse error",
		`absent(a{op="read", instance="i"}) or b{}`: "no metric b",
	} {
		got := strings.Join(judge(scrape, expr), "; ")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

// judge says what is wrong with an expression.
func judge(scrape map[string]metric, expr string) []string {
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(grafana.Replace(expr))
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	known := map[string]bool{}
	for _, l := range labelsOfPrometheus {
		known[l] = true
	}
	parser.Inspect(tree, func(n parser.Node, path []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		m, ok := scrape[s.Name]
		if !ok {
			complain("there is no metric %s", s.Name)
			return nil
		}
		for l := range m.values {
			known[l] = true
		}
		for _, matcher := range s.LabelMatchers {
			judgeMatcher(s.Name, m, matcher, complain)
		}
		counts := m.kind == dto.MetricType_COUNTER || m.kind == dto.MetricType_HISTOGRAM
		if grows := growth(path); counts && !grows {
			complain("%s is a counter, and its value is asked for; use increase or rate", s.Name)
		} else if !counts && grows {
			complain("%s is no counter", s.Name)
		}
		return nil
	})
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		if a, ok := n.(*parser.AggregateExpr); ok {
			for _, l := range a.Grouping {
				if !known[l] {
					complain("by %s: nothing in it has such a label", l)
				}
			}
		}
		return nil
	})
	return wrong
}

func judgeMatcher(name string, m metric, matcher *labels.Matcher, complain func(string, ...any)) {
	if matcher.Name == model.MetricNameLabel || slices.Contains(labelsOfPrometheus, matcher.Name) {
		return
	}
	values, ok := m.values[matcher.Name]
	if !ok {
		complain("%s has no label %s", name, matcher.Name)
		return
	}
	for v := range values {
		if matcher.Matches(v) {
			return
		}
	}
	complain("%s has no %s", name, matcher)
}

// growth says whether a selector, at the end of a path, is asked for its growth alone.
func growth(path []parser.Node) bool {
	if len(path) < 2 {
		return false
	}
	for _, n := range slices.Backward(path) {
		if call, ok := n.(*parser.Call); ok {
			return slices.Contains([]string{"rate", "increase", "irate"}, call.Func.Name)
		}
	}
	return false
}

// TestLegends: a panel's legend names labels that its expression's result can have.
func TestLegends(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("grafana", "pollux.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			tree, err := parser.NewParser(parser.Options{}).ParseExpr(grafana.Replace(target.Expr))
			if err != nil {
				continue // reported elsewhere
			}
			by, sums := map[string]bool{}, false
			parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
				if a, ok := n.(*parser.AggregateExpr); ok {
					sums = true
					for _, l := range a.Grouping {
						by[l] = true
					}
				}
				return nil
			})
			for _, l := range legendLabels(target.Legend) {
				if sums && !by[l] {
					t.Errorf("panel %s: %q names %s, which the expression sums up", p.Title, target.Legend, l)
				}
			}
		}
	}
}
