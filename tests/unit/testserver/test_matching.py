"""R20: how values of a case are compared."""

import pytest
from testserver.matching import OPERATORS, agrees, agrees_at
from testserver.pointer import PointerMissing, equal, resolve
from testserver.variables import Scope, VariableUnknown, names_in

# operator → (operand, a value that it holds for, one that it does not)
EXAMPLES = {
    "$matches": ("^run_", "run_1", 7),
    "$contains": ("b", ["a", "b"], ["a"]),
    "$present": (True, 0, None),
    "$length": (2, [1, 2], [1]),
    "$at_least": (2, 2, 1),
    "$at_most": (2, 2, True),
    "$not": ("a", "b", "a"),
}


@pytest.mark.parametrize("operator", EXAMPLES)
def test_an_operator_holds_for_one_value_and_not_for_another(operator: str):
    operand, right, wrong = EXAMPLES[operator]

    assert agrees(right, {operator: operand})
    assert not agrees(wrong, {operator: operand})


def test_every_operator_has_an_example():
    assert OPERATORS.keys() - EXAMPLES.keys() == {"$absent"}


def test_what_is_absent_agrees_only_with_absent():
    assert agrees_at({}, "/a", {"$absent": True}) == (True, "nothing there")
    assert not agrees_at({"a": None}, "/a", {"$absent": True})[0]
    assert not any(agrees_at({}, "/a", wanted)[0] for wanted in (None, {"$present": True}, {"$not": 1}))


def test_a_pointer_walks_objects_and_lists():
    document = {"a/b": [{"~": 1}], "": 2}

    assert resolve(document, "/a~1b/0/~0") == 1
    assert resolve(document, "/") == 2
    assert resolve(document, "") is document
    for pointer in ("/a~1b/1", "/a~1b/-1", "/c", "/a~1b/0/~0/x"):
        with pytest.raises(PointerMissing):
            resolve(document, pointer)


def test_a_boolean_is_never_a_number():
    assert equal([1, {"a": 2.0}], [1.0, {"a": 2}])
    assert not equal(True, 1)
    assert not equal([0], [False])
    assert not equal({"a": 1}, {"a": 1, "b": 2})
    assert not equal([1], [1, 2])


def test_variables_keep_their_type_only_when_alone():
    scope = Scope({"n": 3, "name": "Ann"})

    assert scope.value({"a": "${n}", "b": ["${n} of ${name}", "$${n}"], "c": None}) == {
        "a": 3,
        "b": ["3 of Ann", "${n}"],
        "c": None,
    }
    assert scope.value("${n}", typed=False) == "3"
    with pytest.raises(VariableUnknown, match="'other'"):
        scope.text("${other}")


def test_every_variable_of_a_value_is_found():
    assert [*names_in({"a": ["${x} ${y}", "$${z}", "${1}"], "b": 1})] == ["x", "y", None]
