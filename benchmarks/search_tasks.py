"""Tasks of an office, and the words in which somebody looks for each who has not read its description.

Each subject goes with each operation: 38 times 22 are 836 tasks, which differ from their neighbours in one half alone.
A query was written from what the task is for, with other words or other forms of them, before any was searched for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from skill_operator.api.v1alpha1 import Skill

NAMESPACES = ("billing", "hr", "logistics", "legal", "support", "data", "sales", "ops")


class Subject(NamedTuple):
    """Subject is what an office works on: its name in the plural, its fields, and other words for it."""

    name: str
    fields: tuple[str, ...]
    query: str


class Operation(NamedTuple):
    """Operation is what is done with it: its name, its summary, its own properties, and other words for it."""

    name: str
    summary: str
    properties: tuple[str, ...]
    query: str


class SearchTask(NamedTuple):
    """SearchTask is a Skill, and a query by which it should be found."""

    skill: Skill
    query: str


SUBJECTS = (
    Subject("invoices", ("invoiceNumber", "customer", "dueDate", "netAmount"), "bills sent to a customer"),
    Subject("purchase orders", ("orderNumber", "supplier", "approvedBy", "items"), "what we ordered from suppliers"),
    Subject("payslips", ("employee", "grossPay", "taxCode", "payPeriod"), "salary slips showing pay and taxes"),
    Subject("shipments", ("trackingNumber", "carrier", "weightKg", "destination"), "parcels handed to carriers"),
    Subject("subscriptions", ("plan", "renewalDate", "monthlyPrice", "seats"), "subscribers' renewing plans"),
    Subject("bank transactions", ("iban", "bookingDate", "amount", "counterparty"), "account movements at the bank"),
    Subject("support tickets", ("ticketId", "priority", "assignee", "openedAt"), "helpdesk tickets users opened"),
    Subject("job applications", ("candidate", "position", "cvText", "stage"), "applicants for an open position"),
    Subject("leave requests", ("employee", "firstDay", "lastDay", "leaveType"), "requested vacation and sick leave"),
    Subject("expense claims", ("claimant", "receipt", "category", "mileage"), "travel expenses and receipts"),
    Subject("sales leads", ("company", "contactEmail", "source", "score"), "prospective customers, leads"),
    Subject("contracts", ("party", "effectiveDate", "clauses", "noticePeriod"), "signed agreements and their clauses"),
    Subject("stock levels", ("sku", "warehouse", "onHand", "reorderPoint"), "inventory in the warehouses"),
    Subject("server logs", ("timestamp", "level", "host", "message"), "log lines of a server"),
    Subject("sensor readings", ("sensorId", "celsius", "humidity", "takenAt"), "temperatures measured by sensors"),
    Subject("product reviews", ("product", "stars", "reviewer", "text"), "stars and comments from reviewers"),
    Subject("survey responses", ("respondent", "question", "answer", "submittedAt"), "answers people gave to a survey"),
    Subject("calendar events", ("organizer", "attendees", "startsAt", "room"), "meetings and attendees in a calendar"),
    Subject("email messages", ("sender", "recipients", "subjectLine", "body"), "mails with sender and recipient"),
    Subject("exam grades", ("student", "course", "points", "gradedOn"), "marks that students got in a course"),
    Subject("patient records", ("patientId", "diagnosis", "medication", "bloodType"), "medical data about patients"),
    Subject("hotel bookings", ("guest", "checkIn", "checkOut", "roomType"), "guests' reservations at a hotel"),
    Subject("flight schedules", ("flight", "departure", "arrival", "gate"), "departing and arriving flights"),
    Subject("recipes", ("ingredients", "servings", "ovenMinutes", "cuisine"), "cooking ingredients per serving"),
    Subject("timesheets", ("worker", "project", "hours", "billable"), "hours worked on projects"),
    Subject(
        "loan repayments", ("borrower", "principal", "interestRate", "instalment"), "instalments a borrower repays"
    ),
    Subject("insurance policies", ("policyholder", "premium", "coverage", "deductible"), "insured people and premiums"),
    Subject(
        "vehicle inspections", ("licencePlate", "odometer", "inspector", "defects"), "checks of cars, defects found"
    ),
    Subject(
        "property listings", ("address", "bedrooms", "squareMetres", "askingPrice"), "houses on sale, with bedrooms"
    ),
    Subject("library loans", ("borrower", "isbn", "loanedOn", "returnedOn"), "books lent by a library"),
    Subject(
        "energy meters", ("meterId", "kilowattHours", "tariff", "readOn"), "electricity meter values in kilowatt hours"
    ),
    Subject("website visits", ("visitorId", "page", "referrer", "durationSeconds"), "visitors and pages of a web site"),
    Subject("git commits", ("sha", "author", "changedFiles", "committedAt"), "commits by authors in a repository"),
    Subject(
        "translations", ("sourceText", "targetLanguage", "translator", "glossary"), "translated texts in a language"
    ),
    Subject("donations", ("donor", "campaign", "giftAid", "pledged"), "money donors gave for a campaign"),
    Subject("fleet fuel cards", ("driver", "litres", "fuelType", "station"), "drivers' fuel purchases in litres"),
    Subject("weather forecasts", ("city", "rainfall", "windSpeed", "validFor"), "predicted rain and wind for a city"),
    Subject("tax returns", ("taxpayer", "taxableIncome", "allowance", "filedOn"), "declared income of a taxpayer"),
)
OPERATIONS = (
    Operation(
        "total", "Adds up the amounts of {s} and gives the sum for each group.", ("groupBy",), "sum up {q}, grouped"
    ),
    Operation("duplicates", "Finds {s} that occur more than once.", ("threshold",), "which of {q} are duplicated"),
    Operation(
        "validate",
        "Checks {s} against rules and lists what is wrong with each.",
        ("rules",),
        "are {q} valid by our rules",
    ),
    Operation("to-csv", "Converts {s} to a CSV table with a header row.", ("delimiter",), "export {q} as csv"),
    Operation(
        "from-csv",
        "Parses a CSV file of {s} into JSON objects.",
        ("csvText",),
        "read {q} out of a csv file, parsing it",
    ),
    Operation(
        "anonymize",
        "Removes personal data from {s} by masking names and numbers.",
        ("maskWith",),
        "mask the personal details in {q}",
    ),
    Operation(
        "forecast",
        "Predicts the next months of {s} from their history by linear regression.",
        ("horizon",),
        "regression forecasting {q} for coming months",
    ),
    Operation(
        "outliers",
        "Detects unusual {s} by their distance from the median.",
        ("deviations",),
        "detecting outlying {q} far from the median",
    ),
    Operation(
        "schedule", "Plans {s} on days so that none overlap.", ("workingDays",), "planning {q} without overlapping days"
    ),
    Operation(
        "compare",
        "Compares two lists of {s} and shows what was added, removed or changed.",
        ("before", "after"),
        "difference between old and new {q}: additions, removals",
    ),
    Operation(
        "classify", "Sorts {s} into categories by keywords.", ("keywords",), "categorize {q} using a keyword list"
    ),
    Operation(
        "summarize",
        "Writes a short report of {s} with counts, minimum, maximum and average.",
        ("reportTitle",),
        "reporting min, max and averages of {q}",
    ),
    Operation(
        "convert-currency",
        "Converts the money in {s} to another currency at given exchange rates.",
        ("exchangeRates",),
        "change {q} into other currencies by exchange rate",
    ),
    Operation(
        "rank",
        "Orders {s} by a score of weighted criteria, best first.",
        ("weights",),
        "score {q} with weighting and put the best on top",
    ),
    Operation(
        "merge", "Joins {s} from two systems by their key.", ("joinKey",), "joining {q} of both systems on a common key"
    ),
    Operation(
        "remind",
        "Finds {s} that are overdue and writes a reminder for each.",
        ("graceDays",),
        "reminders about {q} past due",
    ),
    Operation(
        "render-html", "Renders {s} as an HTML page from a template.", ("template",), "html for {q}, using templates"
    ),
    Operation(
        "split", "Splits {s} into batches of at most a given size.", ("batchSize",), "batching {q}, limited in size"
    ),
    Operation(
        "normalize-dates",
        "Rewrites the dates in {s} as ISO 8601 in UTC.",
        ("timeZone",),
        "iso dates for {q}, from any time zone",
    ),
    Operation(
        "checksum",
        "Computes a checksum of {s} so that changes are noticed.",
        ("algorithm",),
        "hash or checksums over {q}",
    ),
    Operation("sample", "Draws a random sample of {s} with a seed.", ("seed",), "pick {q} randomly, seeded"),
    Operation(
        "histogram",
        "Counts {s} by interval and gives the bins of a histogram.",
        ("bins",),
        "distribution of {q} counted in bins",
    ),
)


def office_tasks() -> Iterator[SearchTask]:
    """Yield every operation on every subject."""
    for place, subject in enumerate(SUBJECTS):
        for operation in OPERATIONS:
            yield SearchTask(
                _skill(subject, operation, NAMESPACES[place % len(NAMESPACES)]), _query(subject, operation)
            )


def _query(subject: Subject, operation: Operation) -> str:
    return operation.query.format(q=subject.query)


def _skill(subject: Subject, operation: Operation, namespace: str) -> Skill:
    """Return the Skill as somebody writes it: a summary for agents, and a description for the model that programs."""
    record = {"type": "object", "properties": {field: {"type": "string"} for field in subject.fields}}
    own: dict[str, Any] = {name: {"type": "string"} for name in operation.properties}
    name = f"{operation.name}-{subject.name.replace(' ', '-')}"
    spec = {
        "summary": operation.summary.format(s=subject.name),
        "description": f"Take the list and do the task for every record of it.\n\nFields: {', '.join(subject.fields)}.",
        "input": {"type": "object", "properties": {"records": {"type": "array", "items": record}, **own}},
        "output": {"type": "object", "properties": {"result": {"type": "object"}}},
        "examples": [{"name": "empty", "input": {"records": []}, "output": {"result": {}}}],
    }
    meta = {"name": name, "namespace": namespace, "uid": name, "generation": 1}
    status = {"image": "registry.example/skill@sha256:0"}
    return Skill.model_validate({"metadata": meta, "spec": spec, "status": status})
