"""jobs/jenkins/Jenkinsfile, read by a real Groovy: its syntax, and what it calls."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from testtools import TestCase

from covtrack.java import Artifact, java_program, missing_parts
from venv_builder.processes import Completed, run_command

FILE = Path(__file__).parents[2] / "jobs/jenkins/Jenkinsfile"
GROOVY = Artifact(
    group="org.apache.groovy",
    name="groovy",
    version="4.0.24",
    sha256="38db8aa6f48b96aa11dd75745b96ab2991ddc9a09f5f3840fae704b84a588867",
)
# Prints the calls of a script, each indented below the one in whose closure or arguments it is.
READER = """\
import java.io.File;
import org.codehaus.groovy.ast.CodeVisitorSupport;
import org.codehaus.groovy.ast.expr.MethodCallExpression;
import org.codehaus.groovy.control.CompilationUnit;
import org.codehaus.groovy.control.Phases;

public class Reader {
    static int depth = 0;

    public static void main(String[] words) {
        CompilationUnit unit = new CompilationUnit();
        unit.addSource(new File(words[0]));
        unit.compile(Phases.CONVERSION);
        unit.getAST().getModules().get(0).getStatementBlock().visit(new CodeVisitorSupport() {
            @Override
            public void visitMethodCallExpression(MethodCallExpression call) {
                System.out.println(" ".repeat(depth++) + call.getMethodAsString());
                super.visitMethodCallExpression(call);
                depth--;
            }
        });
    }
}
"""
TREE = """\
pipeline
 agent
  label
 parameters
  string
  string
  password
 options
  buildDiscarder
   logRotator
  skipDefaultCheckout
 stages
  stage
   steps
    sh
 post
  always
   archiveArtifacts
   junit
   recordCoverage
"""


class JenkinsfileTest(TestCase):
    def setUp(self) -> None:
        super().setUp()
        reason = missing_parts("A real Groovy", ("mvn",), 11, (GROOVY,))
        if reason is not None:
            self.skipTest(reason)
        self.folder = Path(tempfile.mkdtemp(prefix="groovy-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / "Reader.java").write_text(READER)

    def read(self, text: str) -> Completed:
        path = self.folder / "Jenkinsfile.groovy"
        path.write_text(text)
        reader = str(self.folder / "Reader.java")
        return run_command([java_program(), "-cp", GROOVY.path, reader, path], timeout=120)

    def test_it_is_groovy_and_what_it_calls(self) -> None:
        done = self.read(FILE.read_text())
        self.assertEqual((0, ""), (done.status, done.stderr))
        self.assertEqual(TREE, done.stdout)

    def test_a_mistake_would_be_seen(self) -> None:
        done = self.read(FILE.read_text().replace("parser: 'COBERTURA',", "parser: 'COBERTURA", 1))
        self.assertNotEqual(0, done.status)
        self.assertIn("MultipleCompilationErrorsException", done.stderr)
