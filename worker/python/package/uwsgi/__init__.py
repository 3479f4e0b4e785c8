"""uWSGI's module where no server runs: users' own tests, shells and `manage.py` import it, and this process is all there is.

Inside of the server `import uwsgi` gives the server's own module, also where this package is installed. The names, arguments
and results are the same, and this is where type checkers look them up. Caches are dicts, whatever their names; metrics and
shared areas are made when they are first used; signals call their handlers at once; timers, cron jobs and file monitors are written down and
never fire; what needs a request says so.
"""

from uwsgi._cache import *
from uwsgi._metrics import *
from uwsgi._process import *
from uwsgi._queue import *
from uwsgi._request import *
from uwsgi._sharedarea import *
from uwsgi._signals import *
from uwsgi._waiting import *
