"""The formulas of the shipped math corpus: true ones, each with a worked example that a test computes again."""

# The table below keeps one formula per line.
# ruff: noqa: E501

from dataclasses import dataclass


@dataclass(frozen=True)
class Formula:
    """One section of the math corpus."""

    topic: str
    quantity: str
    formula: str
    meanings: dict[str, str]
    inputs: dict[str, str]
    result: str


def _read(line: str) -> Formula:
    topic, quantity, formula, variables, result = (part.strip() for part in line.split("|"))
    meanings, inputs = {}, {}
    for variable in variables.split(";"):
        name, meaning, value = (part.strip() for part in variable.split(":"))
        meanings[name], inputs[name] = meaning, value
    return Formula(topic, quantity, formula, meanings, inputs, result)


# topic | quantity | formula | variable: meaning: value in the example; ... | result, rounded to two digits
_TABLE = """
Plane geometry|the area of a rhombus|A = d1 * d2 / 2|d1: the first diagonal: 6; d2: the second diagonal: 8|24
Plane geometry|the area of a circle|A = pi * r^2|r: the radius: 3|28.27
Plane geometry|the area of a triangle|A = b * h / 2|b: the base: 10; h: the height: 7|35
Plane geometry|the area of a trapezoid|A = (a + b) * h / 2|a: the first side: 4; b: the second side: 6; h: the height: 5|25
Plane geometry|the area of a parallelogram|A = b * h|b: the base: 9; h: the height: 4|36
Plane geometry|the area of an ellipse|A = pi * a * b|a: the long half axis: 5; b: the short half axis: 2|31.42
Plane geometry|the area of a sector|A = t * r^2 / 2|t: the angle in radians: 1.5; r: the radius: 4|12
Plane geometry|the area of an annulus|A = pi * (R^2 - r^2)|R: the outer radius: 5; r: the inner radius: 3|50.27
Plane geometry|the area of a regular hexagon|A = 3 / 2 * sqrt(3) * s^2|s: the side: 2|10.39
Plane geometry|the circumference of a circle|C = 2 * pi * r|r: the radius: 5|31.42
Plane geometry|the perimeter of a rectangle|P = 2 * (a + b)|a: the length: 7; b: the width: 3|20
Plane geometry|the diagonal of a square|d = s * sqrt(2)|s: the side: 5|7.07
Plane geometry|the angle sum of a polygon|S = (n - 2) * 180|n: the number of sides: 6|720
Plane geometry|the Pythagorean theorem|c = sqrt(a^2 + b^2)|a: the first short side: 5; b: the second short side: 12|13
Solids|the volume of a cone|V = pi * r^2 * h / 3|r: the radius: 3; h: the height: 7|65.97
Solids|the volume of a sphere|V = 4 / 3 * pi * r^3|r: the radius: 3|113.1
Solids|the volume of a cylinder|V = pi * r^2 * h|r: the radius: 2; h: the height: 10|125.66
Solids|the volume of a pyramid|V = B * h / 3|B: the base area: 12; h: the height: 5|20
Solids|the volume of a prism|V = B * h|B: the base area: 15; h: the height: 4|60
Solids|the volume of a torus|V = 2 * pi^2 * R * r^2|R: the outer radius: 5; r: the inner radius: 2|394.78
Solids|the surface of a sphere|S = 4 * pi * r^2|r: the radius: 6|452.39
Coordinates|the slope of a line|m = y / x|y: the rise: 6; x: the run: 3|2
Coordinates|the distance between two points|d = sqrt(x^2 + y^2)|x: the horizontal distance: 3; y: the vertical distance: 4|5
Coordinates|the midpoint of a segment|M = (a + b) / 2|a: the first end: 3; b: the second end: 11|7
Algebra|the discriminant of a quadratic equation|D = b^2 - 4 * a * c|b: the middle coefficient: 5; a: the first coefficient: 1; c: the last coefficient: 6|1
Algebra|the quadratic formula|x = (sqrt(D) - b) / (2 * a)|D: the discriminant: 25; b: the middle coefficient: 3; a: the first coefficient: 2|0.5
Sequences|the sum of an arithmetic series|S = n * (a + z) / 2|n: the number of terms: 10; a: the first term: 1; z: the last term: 10|55
Sequences|the sum of a geometric series|S = a * (q^n - 1) / (q - 1)|a: the first term: 1; q: the common ratio: 2; n: the number of terms: 8|255
Money|compound interest|A = P * (1 + r)^n|P: the starting amount: 1000; r: the rate: 0.05; n: the number of years: 2|1102.5
Money|simple interest|I = P * r * n|P: the starting amount: 500; r: the rate: 0.04; n: the number of years: 3|60
Statistics|the mean of two numbers|M = (a + b) / 2|a: the first number: 12; b: the second number: 20|16
Statistics|the standard score|z = (x - m) / s|x: the value: 85; m: the mean: 70; s: the standard deviation: 10|1.5
Kinematics|the period of a pendulum|T = 2 * pi * sqrt(l / g)|l: the length: 2; g: the gravity: 9.81|2.84
Kinematics|the average speed|v = s / t|s: the distance: 150; t: the time: 3|50
Kinematics|the kinetic energy|E = m * v^2 / 2|m: the mass: 4; v: the speed: 5|50
"""
FORMULAS = tuple(_read(line) for line in _TABLE.strip().splitlines())
