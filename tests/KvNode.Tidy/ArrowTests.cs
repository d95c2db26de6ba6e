using System.Text.RegularExpressions;
using KvNode.Raft;
using KvNode.Storage;
using Xunit;

namespace KvNode.Tidy;

/// <summary>Who may know whom: between the assemblies, and inside each between the folders. Arrows point one way only.</summary>
public sealed partial class ArrowTests
{
    /// <summary>
    /// For each project its folders, and for each folder those it may use beside itself. "" is the project's own root
    /// folder. A folder that is not here is an error: say where it stands.
    /// </summary>
    private static readonly Dictionary<string, Dictionary<string, string[]>> Allowed = new(StringComparer.Ordinal)
    {
        ["src/KvNode.Raft"] = new(StringComparer.Ordinal)
        {
            [""] = [],
            ["Native"] = [],
            ["Wal"] = ["", "Native", "Core"],
            ["Snapshots"] = ["", "Native"],
            ["Core"] = [""],
            ["Identity"] = ["", "Native", "Wal"],
            ["Transport"] = ["", "Core", "Wal"],
            ["Engine"] = ["", "Native", "Wal", "Snapshots", "Core", "Identity", "Transport"],
        },
        ["src/KvNode.Storage"] = new(StringComparer.Ordinal)
        {
            [""] = [],
            ["Lmdb"] = [""],
            ["Keyspace"] = ["", "Lmdb"],
            ["Buffer"] = ["", "Lmdb", "Keyspace"],
            ["Snapshots"] = ["", "Lmdb", "Keyspace"],
        },
        ["src/KvNode.Server"] = new(StringComparer.Ordinal)
        {
            ["Resp"] = [""],
            ["Commands"] = ["", "Resp"],
            ["Replication"] = ["", "Resp", "Commands"],
            ["Sessions"] = ["", "Resp", "Commands", "Replication"],
            ["Hosting"] = ["", "Resp", "Commands", "Replication", "Sessions"],

            // Limits and Log know nobody; Program knows Hosting.
            [""] = ["Hosting"],
        },
    };

    /// <summary>Where the base framework's own assemblies are, and no package.</summary>
    private static readonly string RuntimeDirectory = Path.GetDirectoryName(typeof(object).Assembly.Location)!;

    [Fact]
    public void RaftAndStorageKnowNeitherEachOtherNorAnyPackage()
    {
        foreach (var assembly in new[] { typeof(IConsensusEngine).Assembly, typeof(StoreStatus).Assembly })
        {
            Assert.All(
                assembly.GetReferencedAssemblies(),
                static name => Assert.True(File.Exists(Path.Combine(RuntimeDirectory, name.Name + ".dll")), name.Name));
        }
    }

    [Fact]
    public void ServerReferencesBothAndOnlyTheFrameworkBeside()
    {
        var names = typeof(KvNode.Server.Limits).Assembly.GetReferencedAssemblies().Select(static name => name.Name!).ToArray();
        Assert.Contains("KvNode.Raft", names);
        Assert.All(names, static name => Assert.Matches(OfTheFramework(), name));
    }

    [Theory]
    [InlineData("src/KvNode.Raft")]
    [InlineData("src/KvNode.Storage")]
    [InlineData("src/KvNode.Server")]
    public void FoldersUseOnlyThoseBelowThem(string project)
    {
        var files = SourceTree.Under([project], ".cs").ToDictionary(
            static file => file, static file => NotCode().Replace(SourceTree.Read(file), " "), StringComparer.Ordinal);
        var homes = HomesOfTypes(project, files);
        var wrong = new List<string>();
        foreach (var (file, code) in files)
        {
            var folder = FolderOf(project, file);
            Assert.True(Allowed[project].ContainsKey(folder), $"{file}: say in {nameof(ArrowTests)} where {folder} stands");
            foreach (var word in Word().Matches(code).Select(static match => match.Value).Distinct(StringComparer.Ordinal))
            {
                if (homes.TryGetValue(word, out var home) && home != folder && !Allowed[project][folder].Contains(home))
                {
                    wrong.Add($"{file} uses {word} of {(home.Length == 0 ? "the root" : home)}");
                }
            }
        }

        SourceTree.ExpectNone(wrong);
    }

    [Fact]
    public void FolderArrowsHaveNoCircleBesideTheProgramItself()
    {
        foreach (var (project, folders) in Allowed)
        {
            foreach (var (folder, below) in folders.Where(static pair => pair.Key.Length > 0))
            {
                Assert.DoesNotContain(below, name => name.Length > 0 && folders[name].Contains(folder));
            }

            Assert.All(folders.Values.SelectMany(static below => below), name => Assert.True(folders.ContainsKey(name), project));
        }
    }

    /// <summary>
    /// Each type's folder. A name that two folders declare, or that is a member's name too, says nothing and is left out.
    /// </summary>
    private static Dictionary<string, string> HomesOfTypes(string project, Dictionary<string, string> files)
    {
        var homes = new Dictionary<string, string>(StringComparer.Ordinal);
        var ambiguous = new HashSet<string>(StringComparer.Ordinal);
        foreach (var (file, code) in files)
        {
            foreach (Match match in TypeDeclaration().Matches(code))
            {
                var name = match.Groups["name"].Value;
                if (homes.TryGetValue(name, out var home) && home != FolderOf(project, file))
                {
                    _ = ambiguous.Add(name);
                }

                homes[name] = FolderOf(project, file);
            }

            ambiguous.UnionWith(MemberDeclaration().Matches(code).Select(static match => match.Groups["name"].Value));
        }

        // Every exception has one too.
        _ = ambiguous.Add("Message");
        foreach (var name in ambiguous)
        {
            _ = homes.Remove(name);
        }

        Assert.NotEmpty(homes);
        return homes;
    }

    private static string FolderOf(string project, string file)
    {
        var rest = file[(project.Length + 1)..];
        var slash = rest.IndexOf('/', StringComparison.Ordinal);
        return slash < 0 ? "" : rest[..slash];
    }

    // Comments and literals name things they do not use. Rough on purpose: a raw literal ends at its next quote.
    [GeneratedRegex("""//[^\n]*|/\*.*?\*/|"(\\.|[^"\\\n])*"|'(\\.|[^'\\\n])'""", RegexOptions.Singleline | RegexOptions.ExplicitCapture)]
    private static partial Regex NotCode();

    // Types of a namespace stand at the start of a line; nested ones have no folder of their own.
    [GeneratedRegex(
        @"^([a-z]+\s+)*((class|struct|interface|enum|record)\s+|delegate\s+[\w<>\[\]?.]+\s+)(?<name>[A-Z]\w*)",
        RegexOptions.Multiline | RegexOptions.ExplicitCapture)]
    private static partial Regex TypeDeclaration();

    // A property or a method: a type, then the name. Constructors and creations have a word of the language before it.
    [GeneratedRegex(
        @"(?<![\w.])(?!(public|private|internal|protected|static|new|return|throw|await|is|as|in|case|class|struct|record|enum|interface)\b)" +
        @"[\w<>\[\]?.,]+\s+(?<name>[A-Z]\w*)\s*(\{\s*(get|init|set)\b|=>|\()",
        RegexOptions.ExplicitCapture)]
    private static partial Regex MemberDeclaration();

    [GeneratedRegex(@"\b[A-Z]\w*\b")]
    private static partial Regex Word();

    [GeneratedRegex(@"^(System|Microsoft\.(AspNetCore|Extensions|Win32))(\.|$)|^KvNode\.(Raft|Storage)$|^netstandard$", RegexOptions.ExplicitCapture)]
    private static partial Regex OfTheFramework();
}
