"""Keep one FLUTE ImagingStudy on a FHIR server true for every DICOM study of an archive."""

__version__ = "0.1.0"
