using System.Text;
using System.Text.RegularExpressions;
using KvNode.Server.Commands;
using KvNode.Server.Hosting;
using KvNode.Testing;
using Xunit;
using ExitCodes = KvNode.Server.Hosting.ExitCodes;

namespace KvNode.Tidy;

/// <summary>
/// What the README says of commands, flags and exit codes is what the code says. With <c>KVNODE_REWRITE=1</c> in the
/// environment the tables are written from the code instead; read the diff.
/// </summary>
public sealed partial class ReadmeTests
{
    private const string Readme = "README.md";

    [Fact]
    public void CommandTableIsTheCodes()
    {
        var table = new StringBuilder("| command | arguments | what it does |\n| --- | --- | --- |\n");
        foreach (var row in CommandTable.Default.Rows)
        {
            AppendCommand(table, row);
            foreach (var subcommand in row.Subcommands)
            {
                AppendCommand(table, subcommand);
            }
        }

        ExpectTable("commands", table);
    }

    [Fact]
    public void FlagTableIsTheCodes()
    {
        var table = new StringBuilder("| flag | default | environment | meaning |\n| --- | --- | --- | --- |\n");
        foreach (var setting in new CommandLine(static _ => null).Settings)
        {
            var otherwise = setting.Default.Length == 0 ? "" : $"`{setting.Default}`";
            AppendRow(table, $"`{setting.Flag} {setting.Value}`", otherwise, $"`{setting.Variable}`", setting.Meaning);
        }

        ExpectTable("flags", table);
    }

    [Fact]
    public void ExitCodeTableIsTheCodes()
    {
        var table = new StringBuilder("| code | meaning |\n| --- | --- |\n");
        foreach (var (code, meaning) in ExitCodes.Table)
        {
            AppendRow(table, $"{code}", meaning);
        }

        ExpectTable("exit codes", table);
    }

    [Fact]
    public void EveryLinkInADocumentLeadsSomewhere()
    {
        var dead = new List<string>();
        foreach (var file in SourceTree.Under([], ".md"))
        {
            foreach (Match match in Link().Matches(SourceTree.Read(file)))
            {
                var target = match.Groups["target"].Value;
                var path = Path.Combine(Repository.Root, Path.GetDirectoryName(file)!, target);
                if (!target.Contains("://", StringComparison.Ordinal) && !Path.Exists(path))
                {
                    dead.Add($"{file}: {target}");
                }
            }
        }

        SourceTree.ExpectNone(dead);
    }

    [Fact]
    public void EveryTranscriptBeginsWithACommand()
    {
        var transcripts = Transcript().Matches(SourceTree.Read(Readme));
        Assert.True(transcripts.Count >= 5);
        Assert.All(transcripts, static match => Assert.StartsWith("$ ", match.Groups["text"].Value, StringComparison.Ordinal));
    }

    private static void AppendCommand(StringBuilder table, CommandSpec row) =>
        AppendRow(table, $"`{row.Name.Replace('|', ' ')}`", row.Syntax.Length == 0 ? "" : $"`{row.Syntax}`", row.Summary);

    private static void AppendRow(StringBuilder table, params string[] cells) =>
        table.Append("| ").AppendJoin(" | ", cells.Select(static cell => cell.Replace("|", "\\|", StringComparison.Ordinal))).Append(" |\n");

    private static void ExpectTable(string name, StringBuilder rows)
    {
        var text = SourceTree.Read(Readme);
        var begin = $"<!-- table: {name} -->\n";
        const string End = "<!-- end -->";
        var start = text.IndexOf(begin, StringComparison.Ordinal);
        Assert.True(start >= 0, $"README.md has no place for the table of {name}");
        start += begin.Length;
        var end = text.IndexOf(End, start, StringComparison.Ordinal);
        var expected = rows.ToString();
        if (Environment.GetEnvironmentVariable("KVNODE_REWRITE") == "1")
        {
            File.WriteAllText(Path.Combine(Repository.Root, Readme), text[..start] + expected + text[end..]);
        }
        else
        {
            Assert.Equal(expected, text[start..end]);
        }
    }

    [GeneratedRegex(@"\]\((?<target>[^)#\s]+)", RegexOptions.ExplicitCapture)]
    private static partial Regex Link();

    [GeneratedRegex(@"^```console( node)?\n(?<text>.*?)^```$", RegexOptions.Multiline | RegexOptions.Singleline | RegexOptions.ExplicitCapture)]
    private static partial Regex Transcript();
}
