"""Tables for a paper: they hold the numbers of the statistics, follow the rule for bold, and compile."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import made_up
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqeval import analysis
from seqeval.analysis import tables
from seqeval.errors import UserError

KEY = ["statistic", "dataset", "estimator", "variant", "study"]


def collected(rows: pd.DataFrame) -> pd.DataFrame:
    table, notes = tables.collect(rows)
    assert notes == []
    return table


def lines(*ends: tuple[float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(ends, columns=["estimate", "low", "high"])


# --- bold ---


@pytest.mark.parametrize(
    ("ends", "bold"),
    [
        ([(5, 4, 6), (9, 8, 10), (7, 6.5, 7.5)], [False, True, False]),  # no overlap with the best
        ([(5, 4, 6), (9, 8, 10), (7, 6.5, 8.5)], [False, True, True]),
        ([(5, 4, 8), (9, 8, 10)], [True, True]),  # intervals that touch overlap
        ([(9, 8, 10), (8.9, 8.8, 9)], [True, True]),  # one within the other
        ([(5, 1, 20), (9, 8, 10)], [True, True]),  # a wide interval that includes the best
        ([(3, 3, 3), (3, 3, 3), (2, 2, 2)], [True, True, False]),  # one seed per line
        ([(9, 8, 10)], [False]),  # one line only
    ],
)
def test_the_best_line_and_those_that_overlap_with_it_are_bold(
    ends: list[tuple[float, float, float]], bold: list[bool]
) -> None:
    assert tables.best(lines(*ends)).tolist() == bold


@given(
    st.lists(st.tuples(*[st.integers(0, 20)] * 3).map(lambda three: sorted(three)), min_size=2, max_size=6)
)
def test_lines_that_are_not_bold_lie_below_the_best(ends: list[list[int]]) -> None:
    table = lines(*((middle, low, high) for low, middle, high in ends))
    bold = tables.best(table)
    top = table["estimate"].idxmax()
    assert bold[top]
    for place in table.index:
        assert bold[place] == (table["high"][place] >= table["low"][top])


# --- content ---


def test_each_line_has_final_value_area_and_estimators_over_datasets() -> None:
    rows = made_up.rows(("bc", "mine"), ("one", "two"))
    table = collected(rows).set_index(KEY)
    assert len(table) == 2 * 2 * (2 + 3)  # statistics, lines, and datasets and estimators
    for statistic, values in ((name, analysis.STATISTICS[name].compute(rows)) for name in ("final", "area")):
        for each in analysis.means_over_seeds(values).itertuples():
            found = table.loc[(statistic, each.dataset, "mean", each.variant, "s")]
            assert found[["estimate", "low", "high", "runs", "unit"]].tolist() == [
                *(each.estimate, each.low, each.high, 3, "score")
            ]
        for each in analysis.aggregate(values).itertuples():
            if each.estimator != "optimality_gap":
                found = table.loc[(statistic, "", each.estimator, each.variant, "s")]
                assert found[["estimate", "low", "high", "runs", "datasets"]].tolist() == [
                    *(each.estimate, each.low, each.high, 6, 2)
                ]
    assert not table["frozen"].any()


def test_numbers_match_hand_computed_values() -> None:
    score = {("a", 1000): 0.0, ("a", made_up.SIZE): 10.0, ("b", 1000): 4.0, ("b", made_up.SIZE): 8.0}
    rows = made_up.rows(
        ("a", "b"), ("one",), points=(1000, made_up.SIZE), score=lambda v, d, seed, n: score[v, n] + seed
    )
    table = collected(rows).set_index(["statistic", "variant"])
    assert table["estimate"].to_dict() == pytest.approx(
        {("final", "a"): 11, ("final", "b"): 9, ("area", "a"): 6, ("area", "b"): 7}
    )
    assert table["best"].to_dict() == {
        ("final", "a"): True,
        ("final", "b"): True,  # 8 to 10 and 10 to 12 touch
        ("area", "a"): True,
        ("area", "b"): True,
    }


def test_an_online_phase_adds_final_value_and_gain_and_marks_frozen_lines() -> None:
    score = {("bc", 3000): 10.0, ("bc", 4000): 11.0, ("mine", 3000): 20.0, ("mine", 4000): 50.0}
    rows = made_up.rows(points=(3000, 4000), score=lambda v, d, seed, n: score[v, n])
    table = collected(rows)
    assert list(dict.fromkeys(table["statistic"])) == ["final", "online", "gain"]  # one point has no area
    found = table[(table["dataset"] == "one")].set_index(["statistic", "variant"])
    assert found["estimate"].to_dict() == {
        ("final", "bc"): 10,
        ("final", "mine"): 20,
        ("online", "bc"): 11,
        ("online", "mine"): 50,
        ("gain", "bc"): 1,
        ("gain", "mine"): 30,
    }
    assert set(table.loc[table["frozen"], "statistic"]) == {"online", "gain"}
    assert set(table.loc[table["frozen"], "variant"]) == {"bc"}
    assert "bc (frozen)" in tables.markdown(table)
    assert not table.loc[table["frozen"], "best"].any()
    assert "Frozen: does not learn online" in tables.latex(table)


def test_one_dataset_has_no_estimators_over_datasets() -> None:
    table = collected(made_up.rows(datasets=("one",)))
    assert set(table["dataset"]) == {"one"}
    assert "IQM" not in tables.markdown(table)


def test_a_dataset_without_scores_is_only_in_its_own_row() -> None:
    rows = made_up.rows(("a",), ("one", "two", "three"))
    rows.loc[rows["dataset"] == "two", "score"] = np.nan
    table, notes = tables.collect(rows)
    assert notes == ["no scores, so not in statistics over datasets: two"]
    assert set(table.loc[table["dataset"] == "", "datasets"]) == {2}
    (end,) = table[(table["dataset"] == "two") & (table["statistic"] == "final")].itertuples()
    assert (end.unit, end.estimate) == (
        "return",
        pytest.approx(rows[(rows["dataset"] == "two") & (rows["samples"] == 3000)]["return_mean"].mean()),
    )
    text = tables.markdown(table)
    assert "Score or return at the end of the data" in text
    assert "| two (return) |" in text
    assert "| one (score) |" in text


def test_lines_without_a_common_dataset_are_tabulated_with_a_note() -> None:
    rows = pd.concat(
        [made_up.rows(("a",), ("one",)), made_up.rows(("b",), ("two",), study="t")], ignore_index=True
    )
    table, notes = tables.collect(rows)
    assert set(table["dataset"]) == {"one", "two"}
    assert notes == [
        "nothing to compare over datasets: not in every line, so not in statistics over datasets: one, two"
    ]
    assert re.search(r"\| one \| [^|]+ \| – \|\n\| two \| – \|", tables.markdown(table))


def test_data_without_an_environment_are_refused() -> None:
    rows = made_up.rows(score=lambda *of: None)
    with pytest.raises(UserError, match="table: no dataset has an environment"):
        tables.collect(rows)


# --- CSV ---


def test_csv_has_all_digits() -> None:
    table = collected(made_up.rows())
    read = pd.read_csv(io.StringIO(tables.csv(table)), keep_default_na=False)
    assert list(read) == list(table)
    for column in ("estimate", "low", "high"):
        assert read[column].tolist() == table[column].tolist()
    assert not read.duplicated(KEY).any()


# --- Markdown and LaTeX ---


def unequal() -> pd.DataFrame:
    rows = made_up.rows(("a", "b"), ("one", "two"), seeds=3)
    return rows[(rows["dataset"] != "two") | (rows["variant"] != "b") | (rows["seed"] < 2)]


def test_entries_with_another_number_of_seeds_state_it() -> None:
    table, _ = tables.collect(unequal())
    markdown, latex = tables.markdown(table), tables.latex(table)
    assert "Mean of 3 seeds (or of the number in brackets), with 95 % bootstrap" in markdown
    assert len(re.findall(r"\] \(2\)", markdown)) == len(re.findall(r"\^\{\(2\)\}", latex)) == 2
    assert not re.search(r"\(3\)", markdown)
    equal = collected(made_up.rows())
    assert "Mean of 3 seeds, with 95 % bootstrap" in tables.markdown(equal)
    assert "^{" not in tables.latex(equal)


def test_markdown_has_a_row_per_dataset_and_estimator_and_a_column_per_line() -> None:
    text = tables.markdown(collected(made_up.rows(("a", "b_c"), ("one", "two"))))
    for part in text.split("\n\n")[1::2]:
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in part.strip().splitlines()]
        assert [row[0].strip() for row in rows] == ["", ":--", "one", "two", "mean", "median", "IQM"]
        assert [entry.strip() for entry in rows[0][1:]] == ["a", r"b\_c"]
        for row in rows[2:]:
            for entry in row[1:]:
                assert re.fullmatch(r" (\*\*-?\d+\.\d\*\*|-?\d+\.\d) \[-?\d+\.\d, -?\d+\.\d\] ", entry)


def test_markdown_and_latex_print_the_best_bold() -> None:
    score = {"a": 10.0, "b": 20.0, "c": 19.5}
    rows = made_up.rows(tuple(score), ("one",), score=lambda v, d, seed, n: score[v] + seed)
    table = collected(rows)
    assert table.groupby("variant")["best"].all().to_dict() == {"a": False, "b": True, "c": True}
    assert "| one | 11.0 [10.0, 12.0] | **21.0** [20.0, 22.0] | **20.5** [19.5, 21.5] |" in tables.markdown(
        table
    )
    assert r"one & $11.0$ & $\mathbf{21.0}$ & $\mathbf{20.5}$ \\" in tables.latex(table)
    assert r" & \scriptsize$[10.0,\,12.0]$ & \scriptsize$[20.0,\,22.0]$" in tables.latex(table)
    assert (
        "Bold: the highest value of a row and all whose intervals overlap with its interval."
        in tables.latex(table)
    )


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (0.01234, "0.01234"),
        (1.5, "1.500"),
        (-98.76, "-98.76"),
        (1234.4, "1234"),
        (56789.0, "56789"),
        (0.0, "0.0"),
    ],
)
def test_returns_are_printed_with_four_digits(value: float, printed: str) -> None:
    rows = made_up.rows(("a",), ("one",), score=lambda *of: value / 2).assign(score=np.nan)
    text = tables.markdown(tables.collect(rows)[0])
    assert f"| one | {printed} [{printed}, {printed}] |" in text


def test_scores_are_printed_with_one_decimal_and_without_negative_zero() -> None:
    rows = made_up.rows(
        ("a",), ("one", "two"), score=lambda v, dataset, *of: {"one": -0.04, "two": 7.25}[dataset]
    )
    text = tables.markdown(collected(rows))
    assert "| one | 0.0 [0.0, 0.0] |" in text
    assert "| two | 7.2 [7.2, 7.2] |" in text


ODD = "[a]_b%c&d#e$f{g}~h^i\\j<k>|l\n-m*`"


def odd() -> pd.DataFrame:
    """Rows whose names have all special characters of LaTeX and Markdown."""
    rows = made_up.rows(("x_1", "100%&{#$}"), ("one", "two"))
    return rows.replace({"dataset": {"one": ODD}})


def test_names_are_escaped_in_latex() -> None:
    text = tables.latex(collected(odd()))
    assert (
        r"{[}a{]}\_b\%c\&d\#e\$f\{g\}\textasciitilde{}h\textasciicircum{}i\textbackslash{}j"
        r"\textless{}k\textgreater{}\textbar{}l -m*` & $" in text
    )
    assert r" & x\_1 & 100\%\&\{\#\$\} \\" in text


def named(*variants: str) -> str:
    return tables.latex(collected(made_up.rows(variants)))


def test_greek_and_accented_names_are_printed_by_pdflatex() -> None:
    text = named("γ=4, λ", "Ωmega", "Zoe\N{COMBINING DIAERESIS}", "naïve–2")
    assert r" & $\gamma$=4, $\lambda$ & $\Omega$mega & Zoë & naïve–2 \\" in text
    assert not text.startswith("%")


def test_a_comment_names_the_engine_for_other_scripts() -> None:
    text = named("强化学习", "имя", "x")
    comment, first, *_ = text.splitlines()
    assert (
        comment
        == "% pdfLaTeX cannot print 强 化 学 习 и м я: use XeLaTeX or LuaLaTeX with a font that has them"
    )
    assert first.startswith(r"\begin{table}")
    assert r" & 强化学习 & имя & x \\" in text


def test_names_are_escaped_in_markdown() -> None:
    text = tables.markdown(collected(odd()))
    assert r"| \[a\]\_b%c\&d\#e\$f\{g\}\~h^i\\j\<k\>\|l -m\*\` |" in text
    assert r"| | x\_1 | 100%\&\{\#\$\} |" in text


def many(variants: int, studies: tuple[str, ...] = ("s",)) -> pd.DataFrame:
    names = tuple(f"algorithm-{each}" for each in range(variants))
    return pd.concat([made_up.rows(names, study=study) for study in studies], ignore_index=True)


def bodies(latex: str) -> list[list[list[str]]]:
    """The rows of each tabular, as lists of entries."""
    found = []
    for columns, body in re.findall(r"\\begin\{tabular\}\{l(r+)\}\n(.*?)\\end\{tabular\}", latex, re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        entries = [re.split(r"(?<!\\)&", row.removesuffix(r"\\")) for row in rows]
        assert max(map(len, entries)) == len(columns) + 1
        found.append([[entry.strip() for entry in row] for row in entries])
    return found


def test_lines_that_do_not_fit_the_page_continue_below() -> None:
    for body in bodies(tables.latex(collected(many(9)))):
        heads = [row[1:] for row in body if row[1].startswith("algorithm")]
        assert [len(head) for head in heads] == [5, 4]
        assert [name for head in heads for name in head] == [f"algorithm-{each}" for each in range(9)]
        names = [row[0] for row in body if row[0]]
        assert names == ["one", "two", "three", "mean", "median", "IQM"] * 2


def test_studies_with_the_same_variants_stand_in_blocks() -> None:
    text = tables.latex(collected(many(2, ("stream", "again"))))
    for body in bodies(text):
        heads = [row for row in body if len(row) > 1 and row[1].startswith("algorithm")]
        assert [head[0] for head in heads] == ["stream", "again"]
        assert all(head[1:] == ["algorithm-0", "algorithm-1"] for head in heads)
    assert text.count("Rows continue in the block below.") == 2
    assert "| algorithm-0 (stream) |" in tables.markdown(collected(many(2, ("stream", "again"))))


def test_latex_uses_commands_of_booktabs_and_latex_only() -> None:
    text = tables.latex(collected(odd()))
    known = "begin end centering footnotesize scriptsize setlength tabcolsep caption label toprule midrule "
    known += (
        "bottomrule addlinespace mathbf textbackslash textasciitilde textasciicircum textless textgreater "
    )
    known += "textbar usepackage"
    assert set(re.findall(r"\\([a-zA-Z]+)", text)) <= set(known.split())
    plain = re.sub(r"\\[{}$]", "", text)
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_with_booktabs_and_fits_the_page(tmp_path: Path) -> None:
    foreign = made_up.rows(("γ, λ, ς, Υ", "Ωmega", "Zoë", "naïve–2"))
    parts = [odd(), unequal(), many(9), many(3, ("stream", "again")), foreign]
    paper = [
        r"\documentclass{article}",
        r"\usepackage{booktabs}",
        r"\setlength{\textwidth}{5.5in}",
        r"\begin{document}",
        *(tables.latex(tables.collect(part)[0]) for part in parts),
        r"\end{document}",
    ]
    (tmp_path / "paper.tex").write_text("\n".join(paper))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout
    assert (tmp_path / "paper.pdf").exists()


def test_a_line_that_does_not_learn_online_is_never_bold_in_statistics_of_that_phase() -> None:
    rows = made_up.rows(
        ("bc", "mine", "other"),
        points=(1000, made_up.SIZE, made_up.SIZE + 100),
        score=lambda variant, dataset, seed, samples: {"bc": 90, "mine": 50, "other": 10}[variant] + seed,
    )
    table, _ = tables.collect(rows)
    bold = table[table["best"]].groupby("statistic")["variant"].agg(set)
    assert bold["final"] == {"bc"}
    assert bold["online"] == {"mine"}
    assert "bc" not in bold["gain"]
