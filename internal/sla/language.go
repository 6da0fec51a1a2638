package sla

import "fmt"

// Language is a language of the report's HTML page. The zero value is English.
type Language string

// Languages of the report's HTML page.
const (
	English Language = "en"
	Chinese Language = "zh-CN"
)

// ParseLanguage returns a language; "" means English.
func ParseLanguage(text string) (Language, error) {
	switch text {
	case "", string(English):
		return English, nil
	case string(Chinese):
		return Chinese, nil
	}
	return "", fmt.Errorf("want en or zh-CN, not %q", text)
}

// say returns a text of the HTML page in the language, filled in as by fmt.Sprintf. A text
// without a translation stays English.
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

// chinese holds the Chinese texts by the English ones. docs/glossary.zh-CN.md has the words.
var chinese = map[string]string{
	"SLA report: %s": "SLA 报告：%s",
	"%s to %s UTC, in steps of %s, from %d instance(s). Generated %s.": "%s 至 %s（UTC），步长 %s，来自 %d 个实例。生成于 %s。",
	"Objective: %s.":                   "目标：%s。",
	"none":                             "无",
	"%s of requests succeed":           "%s 的请求成功",
	"%s of successes within %s":        "成功请求的 %s 在 %s 以内",
	", ":                               "，",
	"Over time":                        "变化过程",
	"Availability":                     "可用性",
	"Latency (p95)":                    "延迟（95 分位）",
	"Error budget left (availability)": "剩余错误预算（可用性）",
	"Error budget left (latency)":      "剩余错误预算（延迟）",
	"%s at worst, at %s":               "最差 %s，在 %s",
	"%s at the end":                    "期末 %s",
	"No requests in this range.":       "此期间没有请求。",
	"Results":                          "结果",
	"Where":                            "范围",
	"Requests":                         "请求",
	"Failed":                           "失败",
	"Objective":                        "目标",
	"Error budget left":                "剩余错误预算",
	"Within latency target":            "达到延迟目标的比例",
	"Latency objective":                "延迟目标",
	"Latency budget left":              "剩余延迟预算",
	"Down":                             "不可用",
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
	"Worst hours":                      "最差的小时",
	"Hour":                             "小时",
	"None.":                            "无。",
	"None: no request failed.":         "无：没有请求失败。",
	"dial":                             "无法连接",
	"tls":                              "TLS 失败",
	"timeout":                          "超时",
	"reset":                            "连接被重置",
	"status":                           "失败状态码",
	"rate_limited":                     "被限流",
	"denied":                           "凭据被拒",
	"truncated":                        "应答不完整",
	"stalled":                          "应答停滞",
	"all_down":                         "全部端点不可用",
	"full":                             "没有空位",
	"consecutive_failures":             "连续失败",
	"failure_ratio":                    "失败率过高",
	"slow":                             "过慢",
	"slower_than_usual":                "远慢于平常",
	"unanswered":                       "客户端等不到应答",
	"trial_failed":                     "试探失败",
	"relapse":                          "恢复中再次失败",
	"operator":                         "运维操作",
	"check_failed":                     "健康检查失败",
}
