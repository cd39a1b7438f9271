package eu.flute.testcql;

import java.nio.file.Files;
import java.nio.file.Path;
import org.cqframework.cql.cql2elm.CqlCompilerOptions;
import org.cqframework.cql.cql2elm.CqlTranslator;
import org.cqframework.cql.cql2elm.LibraryManager;
import org.cqframework.cql.cql2elm.ModelManager;

/** Translates a file of CQL to ELM as JSON, on standard output; what it objects to ends it. */
public final class Translate {
    private Translate() {}

    public static void main(String[] arguments) throws Exception {
        CqlCompilerOptions options = CqlCompilerOptions.defaultOptions();
        options.getOptions().remove(CqlCompilerOptions.Options.EnableAnnotations);
        options.getOptions().remove(CqlCompilerOptions.Options.EnableLocators);
        LibraryManager libraries = new LibraryManager(new ModelManager(), options);
        CqlTranslator translator =
                CqlTranslator.fromText(Files.readString(Path.of(arguments[0])), libraries);
        translator.getExceptions().forEach(one -> System.err.println(one.getLocator() + " " + one.getMessage()));
        if (!translator.getErrors().isEmpty()) {
            System.exit(1);
        }
        System.out.println(translator.toJson());
    }
}
