import json
from pathlib import Path

import pytest

from xzpipe.config.model import Serve
from xzpipe.config.serving import Options, load_serve
from xzpipe.errors import ConfigError


def write(folder: Path, serve: object, **rest: object) -> Path:
    tree = {"xzpipe": {"serve": serve, **rest}}
    (folder / "mcp_config.json").write_text(json.dumps(tree))
    return Path("mcp_config.json")


def test_without_a_file_and_options_nothing_is_said(tmp_path):
    assert load_serve(None, {}, tmp_path, Options()) == Serve()


def test_an_option_wins_over_the_file(tmp_path):
    path = write(tmp_path, {"host": "0.0.0.0", "port": 81, "maxConnections": 5})
    made = load_serve(path, {}, tmp_path, Options(port=82, call_timeout=3.0))
    assert (made.host, made.port, made.max_connections, made.call_timeout) == ("0.0.0.0", 82, 5, 3)


def test_paths_of_the_file_are_relative_to_it_and_those_of_options_to_here(tmp_path):
    (tmp_path / "etc").mkdir()
    write(tmp_path / "etc", {"keyFile": "key", "tlsCert": "~/cert.pem", "tlsKey": "/abs/key.pem"})
    path, env = Path("etc/mcp_config.json"), {"HOME": "/home/me"}
    made = load_serve(path, env, tmp_path, Options())
    assert made.key_file == str(tmp_path / "etc" / "key")
    assert (made.tls_cert, made.tls_key) == ("/home/me/cert.pem", "/abs/key.pem")
    made = load_serve(path, env, tmp_path, Options(key_file="mine"))
    assert made.key_file == str(tmp_path / "mine")


def test_variables_are_expanded_from_the_environment_and_dotenv(tmp_path):
    path = write(tmp_path, {"host": "${HOST}", "keyFile": "${DIR}/key"})
    (tmp_path / ".env").write_text("HOST=::1\n")
    made = load_serve(path, {"DIR": "/etc"}, tmp_path, Options())
    assert (made.host, made.key_file) == ("::1", "/etc/key")


def test_what_is_not_its_part_of_the_file_is_not_looked_at(tmp_path):
    path = write(tmp_path, {"port": 81}, mode="nonsense", endpoint="${UNSET}")
    assert load_serve(path, {}, tmp_path, Options()).port == 81


@pytest.mark.parametrize(
    ("serve", "problem"),
    [
        ({"port": 70000}, "xzpipe.serve.port: expected 0 to 65535, got 70000"),
        ({"callTimeout": 0}, "xzpipe.serve.callTimeout: expected seconds above 0, a year at most"),
        ({"maxConnections": 0}, "xzpipe.serve.maxConnections: expected a whole number, at least 1"),
        ({"allowOrigins": "x"}, "xzpipe.serve.allowOrigins: expected a list of strings"),
        ({"keyfiel": "x"}, "found an unknown key; did you mean keyFile?"),
        ({"host": "${UNSET}"}, "xzpipe.serve.host: expected the environment variable UNSET"),
        ("8004", "xzpipe.serve: expected an object, got a string"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(serve, problem, tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_serve(write(tmp_path, serve), {}, tmp_path, Options())
    [said] = caught.value.problems
    assert said.startswith("mcp_config.json: ") and problem in said


def test_a_file_without_an_object_for_xzpipe_is_refused(tmp_path):
    (tmp_path / "c.json").write_text('{"xzpipe": 5}')
    with pytest.raises(ConfigError, match="xzpipe: expected an object, got 5"):
        load_serve(Path("c.json"), {}, tmp_path, Options())


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read"):
        load_serve(Path("none.json"), {}, tmp_path, Options())
