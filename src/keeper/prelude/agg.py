"""The matplotlib backend of a session: draws with Agg, shows through figures."""

from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

from _carrel import figures


class FigureManager(FigureManagerBase):
    def show(self):
        """Sends this one figure and closes it: fig.show()."""
        from matplotlib._pylab_helpers import Gcf
        try:
            figures.show(self.canvas.figure)
        finally:
            Gcf.destroy(self)


class FigureCanvas(FigureCanvasAgg):
    manager_class = FigureManager


def show(*args, **kwargs):
    """plt.show(): takes `block` for compatibility, and never waits."""
    figures.show_all()
