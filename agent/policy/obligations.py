"""Obligations: duties that come with a permit or forbid. A closed vocabulary; the recorder carries them out."""

BEFORE = (
    "capture_request_on_recording",
    "state_reason_on_camera",
    "announce_stop",
    "ask_person_first",
    "supervisor_approval",
    "prompt_capture_request",
)
"""Due before the decision."""

BY_DEVICE = (
    "resume_when_exception_ends",
    "auto_resume_on_enforcement_or_trigger",
    "resume_on_vehicle_exit",
    "auto_unmute_on_civilian_contact",
    "keep_pre_event_buffer_running",
    "keep_video_running",
    "upload_complete_before_shutdown",
    "log_mute_intervals",
    "flag_late_activation_if_buffer_short",
)
"""Carried out by the device afterwards."""

BY_PEOPLE = (
    "log_reason_code",
    "log_denied_attempt",
    "flag_for_review",
    "record_authoriser_identity",
    "reason_in_evidence_metadata",
    "supervisor_also_documents_reason",
    "state_reason_for_continuing_on_camera",
    "document_interruption",
    "written_report",
    "user_must_be_able_to_justify",
    "offer_redaction_notice",
    "redact_on_release",
    "release_only_by_supervisor_or_investigator",
)
"""Carried out by people, in the evidence's metadata and the report."""

OBLIGATIONS = (*BEFORE, *BY_DEVICE, *BY_PEOPLE)

PROMPT_STOP = "prompt_stop"
"""If a source text compels a stop, the wearer is prompted; the device never stops by itself."""

LOG_DENIED_ATTEMPT = "log_denied_attempt"
"""Added to a denial for which no rule states an obligation."""

FLAG_FOR_REVIEW = "flag_for_review"
"""Added to a grant that ends, pauses or mutes a recording on the wearer's declarations alone."""
