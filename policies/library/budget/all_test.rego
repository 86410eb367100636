package remit.budget_test

rules := {
	"required": {"llm": ["tokens"]},
	"most": {"tokens": 1000, "usd": 20},
	"scarce": {"tokens": 20},
	"small_models": ["mini"],
	"longest_answer": 100,
	"asked_for_usage": ["llm"],
}

call(tool, left, arguments) := {
	"tool": {"name": tool, "access": "write"},
	"history": {"rest": left},
	"request": {"arguments": object.union({"model": "large", "max_tokens": 100}, arguments)},
}

reasons(input_) := {entry.reason | some entry in found} if {
	found := data.remit.all.deny with input as input_ with data.budget as rules
}

opened(limits) := {entry.reason | some entry in found} if {
	found := data.remit.admit.deny with input as {"task": {"limits": limits}} with data.budget as rules
}

test_what_costs_needs_a_budget if "no_budget" in reasons(call("llm", {}, {}))

test_of_the_right_unit if "no_budget" in reasons(call("llm", {"budget": {"usd": 1}}, {}))

test_with_one_it_is_called if not "no_budget" in reasons(call("llm", {"budget": {"tokens": 100}}, {}))

test_other_tools_need_none if not "no_budget" in reasons(call("notes", {}, {}))

test_reads_need_none if {
	not "no_budget" in reasons(object.union(call("llm", {}, {}), {"tool": {"name": "llm", "access": "read"}}))
}

test_a_large_model_is_asked_while_there_is_enough if {
	not "budget_nearly_spent" in reasons(call("llm", {"budget": {"tokens": 20.5}}, {}))
}

test_and_not_with_little_left if "budget_nearly_spent" in reasons(call("llm", {"budget": {"tokens": 20}}, {}))

test_then_a_small_one_is if {
	not "budget_nearly_spent" in reasons(call("llm", {"budget": {"tokens": 20}}, {"model": "mini"}))
}

test_another_tool_is_called_still if not "budget_nearly_spent" in reasons(call("notes", {"budget": {"tokens": 20}}, {}))

test_an_answer_has_an_end if "cost_unbounded" in reasons(call("llm", {"budget": {"tokens": 100}}, {"max_tokens": 101}))

test_which_is_a_number if "cost_unbounded" in reasons(call("llm", {"budget": {"tokens": 100}}, {"max_tokens": null}))

test_a_short_one_has if not "cost_unbounded" in reasons(call("llm", {"budget": {"tokens": 100}}, {}))

test_a_stream_tells_its_usage if {
	"cost_untold" in reasons(call("llm", {"budget": {"tokens": 100}}, {"stream": true}))
}

test_if_it_is_asked_to if {
	arguments := {"stream": true, "stream_options": {"include_usage": true}}
	not "cost_untold" in reasons(call("llm", {"budget": {"tokens": 100}}, arguments))
}

test_a_budget_is_opened_up_to_the_most if not "budget_too_large" in opened({"budget": {"tokens": 1000, "usd": 20}})

test_and_not_beyond if "budget_too_large" in opened({"budget": {"usd": 20.5}})

test_what_is_not_named_has_no_budget if "budget_too_large" in opened({"budget": {"eur": 1}})

test_who_asks_for_none_is_let_in if not "budget_too_large" in opened({})
