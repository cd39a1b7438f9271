"""A criterion as a site may write it, with data of its own."""

PSA = """
name = "psa-before-biopsy"
version = "1"
title = "PSA above 3 within 180 days before the biopsy"
description = "Included: a biopsy with a final PSA above 3.0 ng/mL in the 180 days before it."
resources = ["Procedure", "Observation"]
index = "%biopsies"
included = "%recent.exists(value.value > 3.0)"
excluded = "%recent.exists() and %recent.all(value.value <= 3.0)"

[let]
biopsies = '''
entry.resource.ofType(Procedure).where(status = 'completed'
  and code.coding.where(system = 'http://snomed.info/sct' and code = '86273004').exists())'''
day = "%biopsies.select(performed.ofType(dateTime).%date)"
recent = '''
entry.resource.ofType(Observation).where(status = 'final'
  and code.coding.where(system = 'http://loinc.org' and code = '2857-1').exists()
  and %taken <= %day and %taken >= %day - 180 days)'''

[define]
taken = "effective.ofType(dateTime).%date"
date = "select(toString().substring(0, 10).toDate())"
"""
