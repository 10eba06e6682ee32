"""What `app.py` hands to the routes, by the names of their parameters: `services` and `caller`."""

from litestar.di import NamedDependency

from gateway import services
from gateway.access import auth

Services = NamedDependency[services.Services]
Caller = NamedDependency[auth.Caller]
