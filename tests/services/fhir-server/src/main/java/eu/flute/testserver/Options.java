package eu.flute.testserver;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.hl7.fhir.r5.utils.validation.constants.ReferenceValidationPolicy;

/**
 * What the command line may choose, each as {@code --name=value}.
 *
 * @param port 0 picks a free one
 * @param db a directory whose data outlives the process; absent: memory
 * @param profiles a directory of conformance resources, stored before the server says that it is ready
 * @param validate refuse a write whose body has validation errors, with 422
 * @param staleIfMatch the status of a stale If-Match: 409 is what HAPI answers, 412 what FHIR says
 * @param references how far validation follows references; HAPI's own default is IGNORE
 */
record Options(
    int port,
    Optional<Path> db,
    Optional<Path> profiles,
    boolean validate,
    int staleIfMatch,
    ReferenceValidationPolicy references) {

  private static final Set<String> NAMES =
      Set.of("port", "db", "profiles", "validate", "if-match", "references");

  static Options parse(String[] args) {
    Map<String, String> given = new HashMap<>();
    for (String arg : args) {
      String[] pair = arg.split("=", 2);
      if (pair.length != 2 || !pair[0].startsWith("--") || !NAMES.contains(pair[0].substring(2))) {
        throw new IllegalArgumentException("unknown option: " + arg);
      }
      given.put(pair[0].substring(2), pair[1]);
    }
    int staleIfMatch = Integer.parseInt(given.getOrDefault("if-match", "409"));
    if (staleIfMatch != 409 && staleIfMatch != 412) {
      throw new IllegalArgumentException("--if-match is 409 or 412");
    }
    return new Options(
        Integer.parseInt(given.getOrDefault("port", "0")),
        Optional.ofNullable(given.get("db")).map(Path::of).map(Path::toAbsolutePath),
        Optional.ofNullable(given.get("profiles")).map(Path::of),
        Boolean.parseBoolean(given.getOrDefault("validate", "false")),
        staleIfMatch,
        ReferenceValidationPolicy.valueOf(given.getOrDefault("references", "CHECK_VALID")));
  }
}
