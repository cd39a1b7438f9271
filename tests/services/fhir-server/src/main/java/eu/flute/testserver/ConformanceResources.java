package eu.flute.testserver;

import ca.uhn.fhir.jpa.api.dao.DaoRegistry;
import ca.uhn.fhir.jpa.api.dao.IFhirResourceDao;
import ca.uhn.fhir.rest.api.server.SystemRequestDetails;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.hl7.fhir.instance.model.api.IBaseResource;

/** Stores profiles, value sets and code systems as a site does: as resources of the server itself. */
final class ConformanceResources {

  private final DaoRegistry daos;

  ConformanceResources(DaoRegistry daos) {
    this.daos = daos;
  }

  /** Code systems and value sets sort before the structure definitions that bind to them. */
  void store(Path directory) throws IOException {
    List<Path> files;
    try (Stream<Path> listing = Files.list(directory)) {
      files = listing.filter(file -> file.toString().endsWith(".json")).sorted().toList();
    }
    for (Path file : files) {
      store(daos.getFhirContext().newJsonParser().parseResource(Files.readString(file)));
    }
  }

  private <T extends IBaseResource> void store(T resource) {
    @SuppressWarnings("unchecked")
    IFhirResourceDao<T> dao = daos.getResourceDao((Class<T>) resource.getClass());
    dao.update(resource, new SystemRequestDetails());
  }
}
