using System.Text.RegularExpressions;
using System.Xml.Linq;
using KvNode.Testing;
using Xunit;

namespace KvNode.Tidy;

/// <summary>What every file of the project keeps to, whoever wrote it.</summary>
public sealed partial class SourceTreeTests
{
    private const int LinesMax = 800;

    private static readonly string[] Everywhere = [];

    private static readonly string[] Code = ["src", "tests", "bench"];

    private static IEnumerable<string> TextFiles =>
        SourceTree.Under(Everywhere, ".cs", ".md", ".sh", ".c", ".csproj", ".props", ".json", ".txt", ".editorconfig", ".ci/run")
            .Where(static file => !file.EndsWith(".lock.json", StringComparison.Ordinal));

    private static IEnumerable<string> Scripts => SourceTree.Under(Everywhere, ".sh", ".ci/run");

    private static IEnumerable<string> Projects => SourceTree.Under(Everywhere, ".csproj");

    [Fact]
    public void TheTreeIsFound()
    {
        // Every other test here is true of an empty tree.
        Assert.Contains("src/KvNode.Server/Program.cs", SourceTree.Files);
        Assert.Contains("test.sh", Scripts);
        Assert.True(SourceTree.Under(Code, ".cs").Count() > 50);
    }

    [Fact]
    public void FilesAreOneRoomEach() =>
        SourceTree.ExpectNone(SourceTree.Under(Code, ".cs", ".sh", ".c")
            .Select(static file => (File: file, Lines: SourceTree.Read(file).Count(static c => c == '\n')))
            .Where(static pair => pair.Lines > LinesMax)
            .Select(static pair => $"{pair.File} has {pair.Lines} lines"));

    [Fact]
    public void NoMarkOfUnfinishedWorkIsLeft() =>
        SourceTree.ExpectNone(SourceTree.LinesWhere(
            SourceTree.Under(Code, ".cs", ".sh", ".c", ".md", ".csproj", ".txt"), static line => UnfinishedMark().IsMatch(line)));

    [Fact]
    public void NoPathOfOneMachineIsLeft() =>
        SourceTree.ExpectNone(SourceTree.LinesWhere(TextFiles, static line => MachinePath().IsMatch(line)));

    [Fact]
    public void TextFilesEndTheirLinesAsUnixDoes()
    {
        SourceTree.ExpectNone(TextFiles.Where(static file => SourceTree.Read(file).Contains('\r')));
        SourceTree.ExpectNone(TextFiles.Where(static file => !SourceTree.Read(file).EndsWith('\n')));
        SourceTree.ExpectNone(SourceTree.LinesWhere(TextFiles, static line => line.EndsWith(' ') || line.EndsWith('\t')));
    }

    [Fact]
    public void ScriptsStopAtTheFirstErrorAndMayBeRun()
    {
        foreach (var script in Scripts)
        {
            Assert.StartsWith("#!/usr/bin/env bash\n", SourceTree.Read(script), StringComparison.Ordinal);
            Assert.Contains("\nset -euo pipefail\n", SourceTree.Read(script), StringComparison.Ordinal);
            Assert.True(
                OperatingSystem.IsWindows() ||
                File.GetUnixFileMode(Path.Combine(Repository.Root, script)).HasFlag(UnixFileMode.UserExecute),
                $"{script} is not executable");
        }
    }

    [Fact]
    public void EveryProjectIsInTheSolutionAndHasItsLockFile()
    {
        var solution = SourceTree.Read("KvNode.sln").Replace('\\', '/');
        foreach (var project in Projects)
        {
            Assert.Contains($"\"{project}\"", solution, StringComparison.Ordinal);
            Assert.Contains(Path.GetDirectoryName(project) + "/packages.lock.json", SourceTree.Files);
        }
    }

    [Fact]
    public void VersionsStandInOnePlace() =>
        SourceTree.ExpectNone(Projects.Where(static project => XDocument.Parse(SourceTree.Read(project)).Descendants("PackageReference")
            .Any(static reference => reference.Attribute("Version") is not null)));

    [Fact]
    public void EveryProjectWithTestsIsRunByTheTestScript()
    {
        // test.sh takes the projects under tests/ that call themselves test projects.
        foreach (var project in SourceTree.Under(["tests"], ".csproj"))
        {
            var folder = Path.GetDirectoryName(project)!;
            var hasTests = SourceTree.Under([folder], ".cs").Any(static file => TestAttribute().IsMatch(SourceTree.Read(file)));
            Assert.Equal(hasTests, SourceTree.Read(project).Contains("<IsTestProject>true", StringComparison.Ordinal));
        }
    }

    [Fact]
    public void EveryLogLineIsWrittenBySomebody()
    {
        const string Catalogue = "src/KvNode.Server/Log.cs";
        var lines = LogLine().Matches(SourceTree.Read(Catalogue)).Select(static match => match.Groups["name"].Value).ToArray();
        Assert.NotEmpty(lines);
        var code = string.Concat(SourceTree.Under(["src"], ".cs").Where(static file => file != Catalogue).Select(SourceTree.Read));
        SourceTree.ExpectNone(lines.Where(line => !code.Contains($"Log.{line}(", StringComparison.Ordinal)));
    }

    // Written apart, so that this file is not at fault itself; the same words as a reviewer would search for.
    [GeneratedRegex("TO" + "DO|FIX" + "ME|XX" + "X|HA" + "CK|NotImplemented" + "Exception|Skip *= *\"")]
    private static partial Regex UnfinishedMark();

    [GeneratedRegex("/(?:work|root|home)/[a-z]|/tmp/[a-z]+/[a-z]")]
    private static partial Regex MachinePath();

    [GeneratedRegex(@"static partial void (?<name>\w+)\(", RegexOptions.ExplicitCapture)]
    private static partial Regex LogLine();

    [GeneratedRegex(@"^\s*\[(?:Fact|Theory)[\](]", RegexOptions.Multiline)]
    private static partial Regex TestAttribute();
}
