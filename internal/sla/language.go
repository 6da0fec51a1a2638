package sla

import (
	"cmp"
	"fmt"
)

// Language is a language of the report's HTML page. The zero value is English.
type Language string

// Languages of the report's HTML page.
const (
	English Language = "en"
	Chinese Language = "zh-CN"
)

// ParseLanguage returns the language of a tag, en or zh-CN. Empty means English.
func ParseLanguage(text string) (Language, error) {
	switch text {
	case "", string(English):
		return English, nil
	case string(Chinese):
		return Chinese, nil
	}
	return "", fmt.Errorf("want en or zh-CN, not %q", text)
}

// say translates a text of the report and formats it as fmt.Sprintf does. A text without a
// translation stays English. Without values, % has no meaning.
func (l Language) say(text string, values ...any) string {
	if l == Chinese {
		if translated, ok := chinese[text]; ok {
			text = translated
		}
	}
	if len(values) == 0 {
		return text
	}
	return fmt.Sprintf(text, values...)
}

// reasons holds the English words for reasons and kinds of failures. The dashboard uses the same words.
var reasons = map[string]string{
	"all_down":             "every endpoint is out",
	"breaker":              "all out",
	"breaker_and_hold":     "out or in cooldown",
	"check_failed":         "health checks failed",
	"consecutive_failures": "failures in a row",
	"denied":               "credentials refused",
	"dial":                 "could not connect",
	"failed_while_wary":    "failed while other instances had it out",
	"failure_ratio":        "many failures",
	"full":                 "all endpoints are full",
	"hold":                 "all in cooldown",
	"operator":             "by an operator",
	"rate_limited":         "rate limited",
	"relapse":              "failed again while recovering",
	"reset":                "connection reset",
	"scopes":               "out for all its scopes",
	"slow":                 "too slow",
	"slower_than_usual":    "far slower than usual",
	"stalled":              "response stalled",
	"status":               "failure status",
	"timeout":              "timed out",
	"tls":                  "TLS failed",
	"trial_failed":         "trial failed",
	"truncated":            "response cut short",
	"unanswered":           "clients gave up waiting",
}

// reason returns the words for a reason or a kind of failure; an unknown one stays as it is.
func (l Language) reason(name string) string { return l.say(cmp.Or(reasons[name], name)) }

// chinese maps English texts to Chinese ones. docs/glossary.zh-CN.md defines the terms.
var chinese = map[string]string{
	"SLA report: %s": "SLA 报告：%s",
	"%s to %s UTC, in steps of %s, from %d instance(s). Generated %s.": "%s 至 %s（UTC），步长 %s，来自 %d 个实例。生成于 %s。",
	"Objective: %s.":                   "目标：%s。",
	"none":                             "无",
	"%s of requests succeed":           "%s 的请求成功",
	"%s of successes within %s":        "成功请求的 %s 在 %s 以内",
	", ":                               "，",
	"Over time":                        "变化趋势",
	"Availability":                     "可用性",
	"Latency (p95)":                    "延迟（95 分位）",
	"Error budget left (availability)": "剩余错误预算（可用性）",
	"Error budget left (latency)":      "剩余错误预算（延迟）",
	"%s at worst, in the %s from %s":   "最差 %[1]s，出现在 %[3]s 起的 %[2]s 内",
	"%s at the end":                    "期末 %s",
	"No requests in this range.":       "此期间没有请求。",
	"Results":                          "结果",
	"Where":                            "对象",
	"Requests":                         "请求",
	"Failed":                           "失败",
	"Objective":                        "目标",
	"Error budget left":                "剩余错误预算",
	"Within latency target":            "达到延迟目标的比例",
	"Latency objective":                "延迟目标",
	"Latency budget left":              "剩余延迟预算",
	"Down":                             "不可用时长",
	"met":                              "达到",
	"missed":                           "未达到",
	"Latency and failures":             "延迟与失败",
	"Failures":                         "失败种类",
	"Cancelled":                        "取消",
	"Incidents":                        "事故",
	"Start":                            "开始",
	"End":                              "结束",
	"going on":                         "仍在继续",
	"Cause":                            "原因",
	"Requests affected":                "受影响的请求",
	"Failovers":                        "故障转移",
	"From":                             "从",
	"To":                               "到",
	"other endpoints":                  "其他端点",
	"whole pool":                       "整个端点池",
	"Worst hours":                      "最差的时段",
	"Hour":                             "小时",
	"None.":                            "无。",
	"None: no request failed.":         "无：没有请求失败。",
	"could not connect":                "无法连接",
	"TLS failed":                       "TLS 失败",
	"timed out":                        "超时",
	"connection reset":                 "连接被重置",
	"failure status":                   "失败状态码",
	"response cut short":               "应答不完整",
	"response stalled":                 "应答停滞",
	"failures in a row":                "连续失败",
	"many failures":                    "失败率过高",
	"too slow":                         "过慢",
	"far slower than usual":            "远慢于平常",
	"clients gave up waiting":          "客户端等不到应答",
	"trial failed":                     "试探失败",
	"failed again while recovering":    "恢复中再次失败",
	"by an operator":                   "运维操作",
	"health checks failed":             "健康检查失败",
	"every endpoint is out":            "所有端点均不可用",
	"all out":                          "均已摘除",
	"out or in cooldown":               "摘除或冷却",
	"all in cooldown":                  "均在冷却",
	"all endpoints are full":           "端点均已满",
	"credentials refused":              "凭据被拒",
	"rate limited":                     "被限流",
	"out for all its scopes":           "所有范围均已摘除",
	"failed while other instances had it out": "其他实例已将其摘除，此处又失败",
	"%s, last: %s": "%s，最后一次：%s",
}
