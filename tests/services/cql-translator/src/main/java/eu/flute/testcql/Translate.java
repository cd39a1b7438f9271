package eu.flute.testcql;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.cqframework.cql.cql2elm.CqlCompilerOptions;
import org.cqframework.cql.cql2elm.CqlTranslator;
import org.cqframework.cql.cql2elm.LibraryManager;
import org.cqframework.cql.cql2elm.ModelManager;

/** Translates files of CQL to ELM, a JSON array on standard output; what it objects to ends it. */
public final class Translate {
    private Translate() {}

    public static void main(String[] arguments) throws Exception {
        CqlCompilerOptions options = CqlCompilerOptions.defaultOptions();
        options.getOptions().remove(CqlCompilerOptions.Options.EnableAnnotations);
        options.getOptions().remove(CqlCompilerOptions.Options.EnableLocators);
        List<String> found = new ArrayList<>();
        for (String file : arguments) {
            LibraryManager libraries = new LibraryManager(new ModelManager(), options);
            CqlTranslator translator =
                    CqlTranslator.fromText(Files.readString(Path.of(file)), libraries);
            translator.getExceptions().forEach(
                    one -> System.err.println(one.getLocator() + " " + one.getMessage()));
            if (!translator.getErrors().isEmpty()) {
                System.exit(1);
            }
            found.add(translator.toJson());
        }
        System.out.println("[" + String.join(",", found) + "]");
    }
}
