"""matplotlib figures as displays.

plt.show() sends every open figure and closes it. What is still open when a cell
ends is sent and closed too, whatever became of the cell. A figure that is the
cell's value is sent once. At most FIGURES_MAX are sent a cell. Figures of another
backend, which user code chose with matplotlib.use(), are its own affair.

Nothing here imports matplotlib: it is looked up once user code has loaded it.
"""

import io
import sys
import warnings

from _carrel import sources, streams

BACKEND = "module://_carrel.agg"
FIGURES_MAX = 50

_modules = sys.modules
_sent = 0
_dropped = 0


def begin_cell():
    global _sent, _dropped
    _sent = _dropped = 0


def end_cell(answer):
    """Sends the figures the cell left open, and returns its answer.

    An interrupt or an error while drawing becomes the answer when the cell had succeeded.
    """
    if "matplotlib._pylab_helpers" in _modules or _dropped:
        try:
            show_all()
            if _dropped:
                streams.note(f"figures: {_dropped} not shown: more than {FIGURES_MAX} in one cell")
                streams.note_cut(displays=_dropped)
        except BaseException as exc:
            if answer[0] == 0:
                from _carrel import failure
                return failure.outcome(exc)
    return answer


def use_backend():
    """Makes our backend the one pyplot uses. matplotlib must be loaded."""
    matplotlib = sys.modules["matplotlib"]
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].switch_backend(BACKEND)
    else:
        matplotlib.rcParams["backend"] = BACKEND


def is_figure(value):
    """Says whether value is a matplotlib figure, without loading matplotlib."""
    module = _modules.get("matplotlib.figure")
    figure = getattr(module, "Figure", None)
    return figure is not None and isinstance(value, figure)


def show_all():
    """Sends every open figure of our backend in the order of their numbers, and closes it."""
    pylab = _modules.get("matplotlib._pylab_helpers")
    agg = _modules.get("_carrel.agg")
    gcf = getattr(pylab, "Gcf", None)
    if gcf is None or not gcf.figs or agg is None:
        return
    for number in sorted(gcf.figs, key=lambda key: (isinstance(key, str), key)):
        manager = gcf.figs.get(number)
        if not isinstance(manager, agg.FigureManager):
            continue
        try:
            show(manager.canvas.figure)
        finally:
            gcf.destroy(number)


def show(figure):
    """Sends one figure as image/png, unless it is empty."""
    from _carrel import bundle
    data = _representations(figure)
    if data:
        bundle.publish(data)


def show_value(figure):
    """Closes a figure that is a cell's value, and returns its representations."""
    pylab = _modules.get("matplotlib._pylab_helpers")
    data = _representations(figure)
    if pylab is not None:
        pylab.Gcf.destroy_fig(figure)
    return data or None


def _representations(figure):
    global _sent, _dropped
    if not _has_content(figure):
        return {}
    if _sent >= FIGURES_MAX:
        _dropped += 1
        return {}
    _sent += 1
    return {"image/png": png(figure), "text/plain": str_of(figure)}


def _has_content(figure):
    # A figure always holds its own background, and nothing else when nothing was drawn.
    return len(figure.get_children()) > 1


def str_of(figure):
    return repr(figure)


def png(figure):
    """Returns the figure as PNG bytes, trimmed to what is drawn, as notebooks do."""
    out = io.BytesIO()
    if getattr(figure, "canvas", None) is None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        FigureCanvasAgg(figure)
    with warnings.catch_warnings(record=True) as caught:
        figure.canvas.print_figure(
            out, format="png", dpi=figure.dpi, bbox_inches="tight",
            facecolor=figure.get_facecolor(), edgecolor=figure.get_edgecolor())
    for warning in caught:
        # Where matplotlib was called from is here; the user's line is what a person looks for.
        warnings.warn_explicit(warning.message, warning.category, *sources.place())
    return out.getvalue()
