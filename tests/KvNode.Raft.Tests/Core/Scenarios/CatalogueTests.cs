using System.Reflection;
using System.Text.RegularExpressions;
using KvNode.Testing;
using Xunit;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>The table in README.md, the tests' names and the list of all rows say the same.</summary>
public sealed partial class CatalogueTests
{
    /// <summary>How many rows each section of the catalogue has; ids run from 01.</summary>
    private static readonly (char Section, int Rows)[] Sections =
    [
        ('E', 30), ('P', 26), ('R', 36), ('F', 12), ('S', 19), ('A', 10), ('L', 11), ('T', 12), ('M', 27), ('X', 14),
    ];

    [Fact]
    public void EveryRowIsInTheTableExactlyOnce()
    {
        Assert.Equal(197, Rows().Count());
        Assert.Equal(Rows(), Table().Select(line => line.Id));
    }

    [Fact]
    public void TheTableNamesExactlyTheTestsThatThereAre()
    {
        var named = Table().SelectMany(line => TestName().Matches(line.Text).Select(match => match.Value)).Order();

        Assert.Equal(Tests().Order(), named);
    }

    [Fact]
    public void ARowWithoutATestSaysWhy()
    {
        foreach (var (id, text) in Table())
        {
            var tested = Tests().Any(test => test.StartsWith(id + "_", StringComparison.Ordinal));
            Assert.True(tested || ReasonWord().IsMatch(text), $"{id} has neither a test nor a reason");
        }
    }

    private static IEnumerable<string> Rows() =>
        Sections.SelectMany(section => Enumerable.Range(1, section.Rows).Select(row => $"{section.Section}{row:00}"));

    private static string[] Tests() =>
    [
        .. typeof(CatalogueTests).Assembly.GetTypes()
            .Where(type => type.Namespace == typeof(CatalogueTests).Namespace)
            .SelectMany(type => type.GetMethods(
                BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.DeclaredOnly))
            .Where(method => method.GetCustomAttributes<FactAttribute>().Any() && TestName().IsMatch(method.Name))
            .Select(method => method.Name),
    ];

    private static (string Id, string Text)[] Table()
    {
        var readme = Path.Combine(Repository.Root, "tests", "KvNode.Raft.Tests", "Core", "Scenarios", "README.md");
        return
        [
            .. File.ReadLines(readme).Select(line => TableLine().Match(line)).Where(match => match.Success)
                .Select(match => (match.Groups["id"].Value, match.Groups["text"].Value)),
        ];
    }

    [GeneratedRegex(@"^\| (?<id>[A-Z]\d\d) \| (?<text>.+) \|$", RegexOptions.ExplicitCapture, 1000)]
    private static partial Regex TableLine();

    [GeneratedRegex(@"\b[A-Z]\d\d_\w+", RegexOptions.ExplicitCapture, 1000)]
    private static partial Regex TestName();

    [GeneratedRegex("(elsewhere|not for us): .+", RegexOptions.ExplicitCapture, 1000)]
    private static partial Regex ReasonWord();
}
