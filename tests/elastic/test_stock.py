"""When a cloud is asked for what again."""

from serve_app.cluster.stock import FIRST_PAUSE_S, Stock, StockRules


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _stock(**rules: float) -> tuple[Stock, Clock]:
    clock = Clock()
    return Stock(StockRules(**rules), clock), clock  # type: ignore[arg-type]


def test_spot_is_left_alone_for_the_cool_down_and_then_asked_again() -> None:
    stock, clock = _stock(cooldown_s=300)
    assert stock.has_spot("a")
    stock.spot_refused("a")
    assert not stock.has_spot("a")
    assert stock.has_spot("b"), "another type is another market"
    clock.now += 299
    assert not stock.has_spot("a")
    clock.now += 1
    assert stock.has_spot("a")


def test_pauses_grow_while_nothing_is_to_be_had_and_end_with_a_launch() -> None:
    stock, clock = _stock(longest_pause_s=30)
    pauses = []
    for _ in range(5):
        stock.all_refused("a")
        pauses.append(stock.paused_s("a"))
        clock.now += pauses[-1]
    assert pauses == [FIRST_PAUSE_S, 10, 20, 30, 30]
    assert stock.state()["a"]["state"] == "available"
    stock.launched("a", "spot", 1)
    stock.all_refused("a")
    assert stock.paused_s("a") == FIRST_PAUSE_S


def test_machines_that_die_young_put_launches_off() -> None:
    stock, clock = _stock(young_s=60, deaths=3)
    for node in ("n1", "n2", "n3"):
        assert stock.paused_s("a") == 0
        stock.launched("a", "spot", 1)
        stock.alive([(node, "a")])
        clock.now += 10
        stock.alive([]) if node == "n1" else stock.let_go(node, failed=True)
    assert stock.paused_s("a") == FIRST_PAUSE_S
    assert "3 machines in a row died" in stock.state()["a"]["state"]


def test_one_that_lives_or_is_let_go_in_peace_ends_the_row() -> None:
    stock, clock = _stock(young_s=60, deaths=2)
    stock.alive([("n1", "a"), ("n2", "a")])
    stock.let_go("n1", failed=True)
    stock.let_go("n2", failed=False)
    stock.alive([("n3", "a")])
    stock.let_go("n3", failed=True)
    assert stock.paused_s("a") == 0
    stock.alive([("n4", "a")])
    clock.now += 61
    stock.alive([("n4", "a")])
    stock.alive([("n4", "a"), ("n5", "a")])
    stock.let_go("n5", failed=True)
    assert stock.paused_s("a") == 0


def test_an_old_machine_that_dies_is_no_loop() -> None:
    stock, clock = _stock(young_s=60, deaths=1)
    stock.alive([("n1", "a")])
    clock.now += 61
    stock.alive([])
    assert stock.paused_s("a") == 0
