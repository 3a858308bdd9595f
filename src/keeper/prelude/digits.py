"""The decimal digits of integers that are longer than Python writes by itself.

str() refuses them (sys.set_int_max_str_digits()), because its way takes time that grows with the
square of their length. This one halves the number until its parts are short, and has decimal put
them together, whose multiplication is fast: a million digits take less than a second.
"""

_PART_BITS = 1024
_LEADING = 50


def text_of(value):
    """Returns all digits of an int of any length."""
    import decimal

    with _exact(decimal):
        text = str(_whole(decimal, abs(value)))
    return "-" + text if value < 0 else text


def leading_of(value):
    """Returns the first digits of an int, and a number of characters that it has at least."""
    import decimal

    shift = max(0, value.bit_length() - 512)
    top = abs(value) >> shift
    low = _leading(decimal, top, shift, decimal.ROUND_DOWN)
    high = _leading(decimal, top + (shift > 0), shift, decimal.ROUND_UP)
    sign = "-" if value < 0 else ""
    return sign + (low[0] if low == high else ""), low[1] + len(sign)


def _leading(decimal, top, shift, rounding):
    with decimal.localcontext(decimal.Context(
            prec=2 * _LEADING, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, rounding=rounding)):
        about = decimal.Decimal(top) * decimal.Decimal(2) ** shift
    digits = about.as_tuple().digits[:_LEADING]
    return "".join(map(str, digits)).ljust(_LEADING, "0"), about.adjusted() + 1


def _exact(decimal):
    return decimal.localcontext(decimal.Context(
        prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN,
        traps=[decimal.Inexact]))


def _whole(decimal, value):
    """Returns an int that is not negative as a Decimal."""
    powers = {}

    def power(bits):
        if bits not in powers:
            powers[bits] = decimal.Decimal(2) ** bits
        return powers[bits]

    def part(number, bits):
        if bits <= _PART_BITS:
            return decimal.Decimal(number)
        low = bits >> 1
        return (part(number >> low, bits - low) * power(low)
                + part(number & ((1 << low) - 1), low))

    return part(value, value.bit_length())
