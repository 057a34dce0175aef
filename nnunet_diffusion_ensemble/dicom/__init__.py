"""DICOM at both ends: files and folders become images with their geometry, label maps become DICOM SEG."""
