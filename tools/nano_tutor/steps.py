"""Worked answers in the tutor's step format: least significant column first, carries and borrows written out."""


def digits(number: int, width: int = 0) -> list[int]:
    """Digits of `number`, least significant first, padded with zeros to `width`."""
    out = [int(char) for char in reversed(str(number))]
    return out + [0] * (width - len(out))


def add_columns(a: int, b: int) -> str:
    width, carry, steps = max(len(str(a)), len(str(b))), 0, []
    for x, y in zip(digits(a, width), digits(b, width), strict=True):
        total = x + y + carry
        steps.append(f"{x}+{y}{'+1' if carry else ''}={total}")
        carry = total // 10
    return ", ".join(steps)


def sub_columns(a: int, b: int) -> str:
    """Columns of a - b for a >= b; a borrowed ten is written in front of the minuend's digit."""
    width, borrow, steps = len(str(a)), 0, []
    for x, y in zip(digits(a, width), digits(b, width), strict=True):
        lend = x - y - borrow < 0
        top = x + 10 * lend
        steps.append(f"{top}-{y}{'-1' if borrow else ''}={top - y - borrow}")
        borrow = int(lend)
    return ", ".join(steps)


def times_digit(a: int, digit: int) -> str:
    carry, steps = 0, []
    for x in digits(a):
        product = x * digit
        total = product + carry
        steps.append(f"{x}×{digit}+{carry}={product}+{carry}={total}" if carry else f"{x}×{digit}={product}")
        carry = total // 10
    return ", ".join(steps)


def div_columns(a: int, divisor: int) -> str:
    rest, steps = 0, []
    for char in str(a):
        part = rest * 10 + int(char)
        quotient, rest = divmod(part, divisor)
        steps.append(f"{part}={divisor}×{quotient}+{rest}")
    return ", ".join(steps)


def mul_lines(a: int, b: int) -> list[str]:
    """Partial products of a x b for b of one or two digits, then their sum."""
    ones, tens = b % 10, b // 10
    if not tens:
        return [f"{a}×{b}: {times_digit(a, b)} → {a * b}"]
    lines = [f"{a}×{tens * 10}: {times_digit(a, tens)} → {a * tens * 10}"]
    if ones:
        lines.insert(0, f"{a}×{ones}: {times_digit(a, ones)} → {a * ones}")
        lines.append(f"{a * ones}+{a * tens * 10}: {add_columns(a * ones, a * tens * 10)} → {a * b}")
    return lines


def add_steps(a: int, b: int) -> list[str]:
    return [f"{a}+{b}", add_columns(a, b)]


def sub_steps(a: int, b: int) -> list[str]:
    if a >= b:
        return [f"{a}-{b}", sub_columns(a, b)]
    return [f"{a}-{b}=-({b}-{a})", sub_columns(b, a)]


def mul_steps(a: int, b: int) -> list[str]:
    if a < 10 and b < 10:
        return [f"{a}×{b}={a * b}"]
    if a < 10:
        return [f"{a}×{b}={b}×{a}", *mul_lines(b, a)]
    return [f"{a}×{b}", *mul_lines(a, b)]


def div_steps(a: int, b: int) -> list[str]:
    return [f"{a}÷{b}", div_columns(a, b)]


def equation_text(a: int, b: int, c: int, x: str = "x") -> str:
    """Standard form of a x + b = c, e.g. `4x-38=110`."""
    head = x if a == 1 else f"{a}{x}"
    return f"{head}{b:+d}={c}" if b else f"{head}={c}"


def equation_steps(a: int, b: int, c: int, x: str = "x") -> list[str]:
    """Steps for a x + b = c up to, not including, the answer line; the last division may leave a remainder."""
    head, right = x if a == 1 else f"{a}{x}", c - b
    lines = [equation_text(a, b, c, x)]
    if b > 0:
        lines += [f"{head}={line}" if i == 0 else line for i, line in enumerate(sub_steps(c, b))]
    elif b < 0:
        lines += [f"{head}={c}+{-b}", add_columns(c, -b)]
    if b:
        lines[-1] += f" → {right}"
    if a > 1:
        lines += [f"{x}={right}÷{a}", div_columns(abs(right), a)]
        if right % a == 0:
            lines[-1] += f" → {right // a}"
    return lines
