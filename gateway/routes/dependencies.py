"""Types of the parameters `services` and `caller`, which `app.py` injects into the routes by name."""

from litestar.di import NamedDependency

from gateway import services
from gateway.access import auth

Services = NamedDependency[services.Services]
Caller = NamedDependency[auth.Caller]
