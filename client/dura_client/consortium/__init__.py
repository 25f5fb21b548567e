"""The site's membership in a consortium: enrolment, countersignatures, and the roster that the site follows."""
