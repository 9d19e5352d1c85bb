"""`stoker show --metrics`: what a run tracked."""

from stoker.cli.options import Common
from stoker.cli.output import table
from stoker.sdk.metrics import curve, series_of, told
from stoker.sdk.runrecords import Run


def show_metrics(common: Common, found: Run, rank: int) -> None:
    """Print each metric with its last value, its bounds and its course."""
    series = series_of(found, rank)
    value = {"name": found.name, "rank": rank, "metrics": told(series, points=not common.output.is_table)}

    def shown() -> None:
        rows = [
            [
                one["name"],
                _number(one["last"]),
                _number(one["min"]),
                _number(one["max"]),
                str(one["count"]),
                curve(each),
            ]
            for one, each in zip(value["metrics"], series, strict=True)  # type: ignore[call-overload]
        ]
        if rows:
            table(rows, ["METRIC", "LAST", "MIN", "MAX", "VALUES", "COURSE"])
        else:
            common.output.note(f"{found.name} has tracked no metric; mlflow.log_metric in the script does")

    common.output.emit(value, shown, [one.name for one in series])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
