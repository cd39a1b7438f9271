package eu.flute.testserver;

import ca.uhn.fhir.batch2.api.IJobMaintenanceService;
import ca.uhn.fhir.batch2.jobs.bulkmodify.reindex.ReindexProvider;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.interceptor.api.IInterceptorService;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.api.dao.DaoRegistry;
import ca.uhn.fhir.jpa.api.dao.IFhirSystemDao;
import ca.uhn.fhir.jpa.interceptor.OverridePathBasedReferentialIntegrityForDeletesInterceptor;
import ca.uhn.fhir.jpa.interceptor.UserRequestRetryVersionConflictsInterceptor;
import ca.uhn.fhir.jpa.provider.IJpaSystemProvider;
import ca.uhn.fhir.jpa.provider.JpaCapabilityStatementProvider;
import ca.uhn.fhir.jpa.provider.ValueSetOperationProvider;
import ca.uhn.fhir.jpa.search.DatabaseBackedPagingProvider;
import ca.uhn.fhir.jpa.validation.ValidationSettings;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.interceptor.RequestValidatingInterceptor;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import ca.uhn.fhir.rest.server.util.ISearchParamRegistry;
import ca.uhn.fhir.validation.IInstanceValidatorModule;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;

/** A FHIR R4 server on loopback; it prints "READY address" on stdout once it can be used. */
public final class TestServer {

  private TestServer() {}

  public static void main(String[] args) throws Exception {
    Options options = Options.parse(args);
    AnnotationConfigApplicationContext beans = new AnnotationConfigApplicationContext();
    beans.registerBean(Options.class, () -> options);
    beans.register(Persistence.class);
    beans.refresh();
    Runtime.getRuntime().addShutdownHook(new Thread(beans::close));
    if (options.profiles().isPresent()) {
      new ConformanceResources(beans.getBean(DaoRegistry.class)).store(options.profiles().get());
    }

    Server jetty = new Server();
    ServerConnector connector = new ServerConnector(jetty);
    connector.setHost("127.0.0.1");
    connector.setPort(options.port());
    jetty.addConnector(connector);
    ServletContextHandler web = new ServletContextHandler("/");
    hurryJobs(beans.getBean(IJobMaintenanceService.class));
    web.addServlet(new ServletHolder(fhirServlet(beans, options)), "/fhir/*");
    jetty.setHandler(web);
    jetty.setStopAtShutdown(true);
    jetty.start();
    System.out.println("READY http://127.0.0.1:" + connector.getLocalPort() + "/fhir");
    jetty.join();
  }

  /** Jobs such as $reindex take a step a minute otherwise: a test would wait for four of them. */
  private static void hurryJobs(IJobMaintenanceService jobs) {
    ScheduledExecutorService clock =
        Executors.newSingleThreadScheduledExecutor(
            work -> {
              Thread thread = new Thread(work, "hurry-jobs");
              thread.setDaemon(true);
              return thread;
            });
    clock.scheduleWithFixedDelay(jobs::runMaintenancePass, 2, 2, TimeUnit.SECONDS);
  }

  private static RestfulServer fhirServlet(
      AnnotationConfigApplicationContext beans, Options options) {
    IFhirSystemDao<?, ?> systemDao = beans.getBean(IFhirSystemDao.class);
    RestfulServer server = new RestfulServer(systemDao.getContext());
    server.setInterceptorService(beans.getBean(IInterceptorService.class));
    server.registerProviders(beans.getBean(ResourceProviderFactory.class).createProviders());
    server.registerProvider(beans.getBean(IJpaSystemProvider.class));
    server.registerProvider(beans.getBean(ValueSetOperationProvider.class));
    server.registerProvider(beans.getBean(ReindexProvider.class));
    server.setPagingProvider(beans.getBean(DatabaseBackedPagingProvider.class));
    server.setServerConformanceProvider(
        new JpaCapabilityStatementProvider(
            server,
            systemDao,
            beans.getBean(JpaStorageSettings.class),
            beans.getBean(ISearchParamRegistry.class),
            beans.getBean(IValidationSupport.class)));
    server.registerInterceptor(new UserRequestRetryVersionConflictsInterceptor());
    server.registerInterceptor(freeLinks(beans));
    if (options.staleIfMatch() == 412) {
      server.registerInterceptor(new StaleIfMatch());
    }
    beans.getBean(ValidationSettings.class)
        .setLocalReferenceValidationDefaultPolicy(options.references());
    if (options.validate()) {
      server.registerInterceptor(refuseInvalid(beans.getBean(IInstanceValidatorModule.class)));
    }
    return server;
  }

  /** Clinical data stay free to be deleted though a study is linked to them and found by that. */
  private static OverridePathBasedReferentialIntegrityForDeletesInterceptor freeLinks(
      AnnotationConfigApplicationContext beans) {
    OverridePathBasedReferentialIntegrityForDeletesInterceptor interceptor =
        beans.getBean(OverridePathBasedReferentialIntegrityForDeletesInterceptor.class);
    interceptor.addPath(
        "ImagingStudy.extension.where(url = 'http://hl7.eu/fhir/ig/flute/StructureDefinition/"
            + "resource-supportingInfo').value");
    return interceptor;
  }

  private static RequestValidatingInterceptor refuseInvalid(IInstanceValidatorModule validator) {
    RequestValidatingInterceptor interceptor = new RequestValidatingInterceptor();
    interceptor.setFailOnSeverity(ResultSeverityEnum.ERROR);
    interceptor.setValidatorModules(List.of(validator));
    return interceptor;
  }
}
