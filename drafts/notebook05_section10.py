# cells of section 10, for when crossval and curves have LoRA (md/code as in build.py); titles and readings to be written
md("""
## 10. More rows, more seeds

A training starts from random numbers and draws the order of the rows. Another *seed* gives another model, so one run is one
sample. We therefore recorded larger experiments with `benchmarks/evidence.py`.

The first is 5-fold cross-validation. The 600 comments are divided into five parts, and each part is tested once by a model that
learned from the other four. So every row is a test row.

**Predict** which of the differences in section 9 remain.
""")
code("""
from llmcourse.lessons import recorded

evidence = recorded.read("evidence")
points = evidence["crossval"]["sarcasm"]["points"]
for point in points:
    test = f"against LoRA {metrics.p_text(point['p_against_lora'])}" if "p_against_lora" in point else ""
    print(f"{point['method']:20} {point['accuracy']:6.1%}   seeds {point['seeds']}   {test}")
    kind = "prompted" if "shot" in point["method"] else "finetuned" if "LoRA" in point["method"] else "baseline"
    point |= {"name": point["method"], "kind": kind, "n": point["rows"]}
figures.waterfall(points, title="TODO")
""")
md("""
TODO

The second experiment gives each method fewer training rows.

**Predict** how many rows LoRA needs to beat the bag of words.
""")
code("""
curves = {}
for point in evidence["curves"]["sarcasm"]["points"]:
    curves.setdefault(point["method"], []).append((point["size"], point["mean"], *point["mean_ci95"]))
    if point["method"] == "LoRA":
        print(f"LoRA, {point['size']:4} rows: " + ", ".join(f"{value:.1%}" for value in point["accuracies"]))
names = [name for name in ("LoRA", "frozen features", "sentence embeddings", "bag of words") if name in curves]
figures.learning_curves({name: curves[name] for name in names}, "TODO")
""")
md("""
TODO

**The core path ends here.**

