package eu.flute.testserver;

import ca.uhn.fhir.interceptor.api.Hook;
import ca.uhn.fhir.interceptor.api.Pointcut;
import ca.uhn.fhir.rest.api.Constants;
import ca.uhn.fhir.rest.api.server.RequestDetails;
import ca.uhn.fhir.rest.server.exceptions.BaseServerResponseException;
import ca.uhn.fhir.rest.server.exceptions.PreconditionFailedException;
import ca.uhn.fhir.rest.server.exceptions.ResourceVersionConflictException;

/** Answers a stale If-Match as FHIR R4 http.html#concurrency says, with 412, not with HAPI's 409. */
public final class StaleIfMatch {

  @Hook(Pointcut.SERVER_PRE_PROCESS_OUTGOING_EXCEPTION)
  public BaseServerResponseException translate(RequestDetails request, Throwable error) {
    boolean stale =
        error instanceof ResourceVersionConflictException
            && request.getHeader(Constants.HEADER_IF_MATCH) != null;
    return stale ? new PreconditionFailedException(error.getMessage()) : null;
  }
}
