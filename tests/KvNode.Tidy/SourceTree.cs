using KvNode.Testing;
using Xunit;

namespace KvNode.Tidy;

/// <summary>The files people wrote: everything in the checkout but build output and version control.</summary>
internal static class SourceTree
{
    private static readonly string[] NotOurs = [".git", "artifacts", "data", ".vs", ".idea"];

    /// <summary>Paths from the root, with forward slashes, in byte order.</summary>
    public static IReadOnlyList<string> Files { get; } = List();

    /// <summary>Files with one of these endings, under one of these folders (or anywhere).</summary>
    public static IEnumerable<string> Under(string[] folders, params string[] endings) =>
        Files.Where(file => folders.Length == 0 || folders.Any(folder => file.StartsWith(folder + "/", StringComparison.Ordinal)))
            .Where(file => endings.Any(ending => file.EndsWith(ending, StringComparison.Ordinal)));

    public static string Read(string file) => File.ReadAllText(Path.Combine(Repository.Root, file));

    /// <summary>Each line of each file that is at fault, as <c>file:line: text</c>.</summary>
    public static List<string> LinesWhere(IEnumerable<string> files, Func<string, bool> isFault) =>
    [
        .. files.SelectMany(file => Read(file).Split('\n')
            .Select((line, i) => (Line: line, Number: i + 1))
            .Where(pair => isFault(pair.Line))
            .Select(pair => $"{file}:{pair.Number}: {pair.Line.Trim()}")),
    ];

    /// <summary>Fails with every fault named, one a line.</summary>
    public static void ExpectNone(IEnumerable<string> faults)
    {
        var all = string.Join('\n', faults);
        Assert.True(all.Length == 0, all);
    }

    private static List<string> List()
    {
        var files = new List<string>();
        foreach (var entry in Directory.EnumerateFileSystemEntries(Repository.Root))
        {
            var name = Path.GetFileName(entry);
            if (NotOurs.Contains(name))
            {
                continue;
            }

            var found = Directory.Exists(entry) ? Directory.EnumerateFiles(entry, "*", SearchOption.AllDirectories) : [entry];
            files.AddRange(found.Select(static path => Path.GetRelativePath(Repository.Root, path)));
        }

        files.Sort(StringComparer.Ordinal);
        return files;
    }
}
