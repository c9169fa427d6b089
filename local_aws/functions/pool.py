"""Lambda functions, run from their deployed bundle under their deployed configuration and role."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moto.awslambda.models import LambdaFunction, lambda_backends

from local_aws.endpoint.api_call import CallError
from local_aws.functions.execution_environment import ExecutionEnvironment, InvocationResult
from local_aws.functions.function_log import FunctionLog
from local_aws.functions.runtime_api import Invocation
from local_aws.functions.runtime_directory import build_runtime_directory
from local_aws.iam.authorization import Authorizer
from local_aws.iam.sessions import CannotAssumeRoleError, assume_role_for_service
from local_aws.world import World

# A new account's quota; see https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
ACCOUNT_CONCURRENCY = 1000


class ThrottledError(RuntimeError):
    """The function already runs as often at once as its reserved concurrency allows."""


class Functions:
    """Runs functions: warm environments are used again, more are started while all are busy."""

    def __init__(self, world: World, authorizer: Authorizer) -> None:
        self._world = world
        self._authorizer = authorizer
        self._runtime = build_runtime_directory(world.state_dir / "lambda-runtime")
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[ExecutionEnvironment]] = {}
        self._busy: dict[str, int] = {}
        self._all: list[ExecutionEnvironment] = []
        self._logs: dict[str, FunctionLog] = {}
        self._with_stream: set[str] = set()

    def invoke(self, function: LambdaFunction, payload: bytes) -> InvocationResult:
        """Run a function once and wait for it. Raises `ThrottledError`, or what assuming its role raises."""
        request_id = str(uuid.uuid4())
        with self._environment(function) as environment:
            timeout = float(function.timeout)
            invocation = Invocation(request_id, payload, function.function_arn, time.time() + timeout)
            result = environment.invoke(invocation, timeout_seconds=timeout)
            if environment.id in self._with_stream:
                self._demand_logging(function, environment, "logs:PutLogEvents")
        self._world.timeline.record(
            "function_invoked",
            name=function.function_name,
            request_id=request_id,
            seconds=round(result.seconds, 4),
            init_seconds=None if result.init_seconds is None else round(result.init_seconds, 4),
            error=result.error,
        )
        return result

    def log(self, name: str) -> FunctionLog:
        """Return a function's log, by its full name."""
        with self._lock:
            if name not in self._logs:
                self._logs[name] = FunctionLog(self._world.state_dir / "functions" / f"{name}.jsonl")
            return self._logs[name]

    def named(self, name: str) -> LambdaFunction:
        """Return a function by its name, its ARN, or the package its handler is in."""
        with self._world.lock:
            every = list(lambda_backends[self._world.account_id][self._world.region].list_functions())
        exact = [each for each in every if name in (each.function_name, each.function_arn)]
        found = exact or [each for each in every if str(each.handler).split(".")[0] == name]
        if len(found) != 1:
            known = sorted(each.function_name for each in every)
            raise LookupError(f"{len(found)} functions are called {name}; there are: {known}")
        return found[0]

    def environment_of(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an environment of the function `given["name"]` is made of, credentials included.

        For a test that runs the deployed code itself, to hold its clock or to let it die.
        """
        function = self.named(str(given["name"]))
        return {
            "name": str(function.function_name),
            "handler": str(function.handler),
            "bundle": str(self._unpacked(function)),
            "runtime": str(self._runtime),
            "timeout_seconds": float(function.timeout),
            "variables": self._variables(function, _fingerprint(function)),
        }

    def warm(self, given: Mapping[str, Any]) -> dict[str, int]:
        """Have `given["environments"]` idle environments of the function `given["name"]`, imports done.

        As provisioned concurrency has them on AWS. They are started one after another: a machine has few
        processors, and a dozen that start at once take longer for all.
        """
        function = self.named(str(given["name"]))
        key = (str(function.function_name), _fingerprint(function))
        with self._lock:
            missing = int(given["environments"]) - len(self._idle.get(key, ()))
        for _ in range(missing):
            environment = self._start(function, key[1])
            if (failed := environment.initialise()) is not None:
                environment.kill()
                raise ValueError(f"{key[0]} does not start: {failed.payload.decode(errors='replace')}")
            with self._lock:
                self._idle.setdefault(key, []).append(environment)
        return {"started": max(0, missing)}

    def stop(self) -> None:
        """End every environment."""
        with self._lock:
            environments, self._all = self._all, []
        for environment in environments:
            environment.kill()

    @contextmanager
    def _environment(self, function: LambdaFunction) -> Iterator[ExecutionEnvironment]:
        """Lend an environment of this function's present code and configuration."""
        name = str(function.function_name)
        key = (name, _fingerprint(function))
        limit = ACCOUNT_CONCURRENCY
        if function.reserved_concurrency is not None:
            limit = int(function.reserved_concurrency)
        with self._lock:
            if self._busy.get(name, 0) >= limit:
                raise ThrottledError(f"{name} already runs {limit} times at once")
            self._busy[name] = self._busy.get(name, 0) + 1
            idle = self._idle.setdefault(key, [])
            environment = idle.pop() if idle else None
            stale = [other for other in self._idle if other[0] == name and other != key]
            outdated = [each for other in stale for each in self._idle.pop(other)]
        for each in outdated:
            each.kill()
        try:
            environment = environment or self._start(function, key[1])
            yield environment
        finally:
            with self._lock:
                self._busy[name] -= 1
                if environment is not None and environment.usable:
                    self._idle.setdefault(key, []).append(environment)

    def _start(self, function: LambdaFunction, key: str) -> ExecutionEnvironment:
        environment = ExecutionEnvironment(
            handler=str(function.handler),
            bundle=self._unpacked(function),
            runtime=self._runtime,
            variables=self._variables(function, key),
            log=self.log(function.function_name),
        )
        with self._lock:
            self._all = [each for each in self._all if each.usable]
            self._all.append(environment)
        if self._demand_logging(function, environment, "logs:CreateLogStream"):
            self._with_stream.add(environment.id)
        return environment

    def _demand_logging(
        self, function: LambdaFunction, environment: ExecutionEnvironment, action: str
    ) -> bool:
        """Lambda writes logs with the function's role; return whether that role may.

        Without the permission CloudWatch would have no line. What tests read here is kept all the same.
        """
        prefix = f"arn:aws:logs:{self._world.region}:{self._world.account_id}:log-group"
        denial = self._authorizer.denied_to_service(
            role_arn=str(function.role),
            by="lambda.amazonaws.com",
            action=action,
            arn=f"{prefix}:{function.logs_group_name}:log-stream:{environment.id}",
        )
        return denial is None

    def _unpacked(self, function: LambdaFunction) -> Path:
        """Unpack the function's deployed code once for each version of it."""
        code: bytes = function.code_bytes
        directory = self._world.state_dir / "bundles" / hashlib.sha256(code).hexdigest()[:32]
        with self._lock:
            if not directory.exists():
                unfinished = directory.with_suffix(".unfinished")
                with zipfile.ZipFile(io.BytesIO(code)) as archive:
                    archive.extractall(unfinished)
                unfinished.rename(directory)
        return directory

    def _variables(self, function: LambdaFunction, key: str) -> dict[str, str]:
        """Return what Lambda sets, and what the function's own configuration adds."""
        world = self._world
        credentials = assume_role_for_service(
            world,
            role_arn=str(function.role),
            service="lambda.amazonaws.com",
            session_name=str(function.function_name),
        )
        return {
            **world.process_mark,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            **{name: str(value) for name, value in (function.environment_vars or {}).items()},
            "AWS_REGION": world.region,
            "AWS_DEFAULT_REGION": world.region,
            "AWS_ENDPOINT_URL": world.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ACCESS_KEY_ID": credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
            "AWS_SESSION_TOKEN": credentials.session_token,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.run_time}",
            "AWS_LAMBDA_FUNCTION_NAME": str(function.function_name),
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": str(function.logs_group_name),
            "AWS_LAMBDA_LOG_STREAM_NAME": f"{time.strftime('%Y/%m/%d')}/[$LATEST]{key[:32]}",
        }


def _fingerprint(function: LambdaFunction) -> str:
    """Name a function's present code and configuration: a change starts fresh environments, as in Lambda."""
    parts: list[Any] = [
        function.function_name,
        function.code_sha_256,
        function.handler,
        function.role,
        function.environment_vars,
        function.memory_size,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def install(world: World, functions: Functions) -> None:
    """Let moto's Lambda API run functions here, and serve their logs."""

    def invoke(
        backend: Any, name: str, qualifier: str | None, body: Any, headers: Mapping[str, str], answer: Any
    ) -> bytes | None:
        kind = headers.get("X-Amz-Invocation-Type", "RequestResponse")
        with world.lock:
            function = backend.get_function(name, qualifier)
        if kind == "DryRun":
            return b""
        payload = body if isinstance(body, bytes) else str(body or "{}").encode()
        if kind == "Event":
            world.invoke_later(str(function.function_arn), payload)
            return b""
        try:
            result = functions.invoke(function, payload)
        except ThrottledError as err:
            raise CallError("TooManyRequestsException", str(err)) from err
        except CannotAssumeRoleError as err:
            raise CallError("InvalidParameterValueException", str(err)) from err
        if result.error:
            answer["x-amz-function-error"] = "Unhandled"
        return result.payload

    backend_class = type(lambda_backends[world.account_id][world.region])
    backend_class.invoke = invoke
    world.on_stop(functions.stop)
    world.route("POST", "warm-function", functions.warm)
    world.route("GET", "function-environment", functions.environment_of)
    world.route(
        "GET",
        "function-log",
        lambda given: functions.log(functions.named(str(given["name"])).function_name).entries(),
    )
