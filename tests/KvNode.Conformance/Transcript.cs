using System.Text;
using System.Text.RegularExpressions;

namespace KvNode.Conformance;

/// <summary>One command of a transcript and what it prints.</summary>
/// <param name="Expected">Lines; <c>&lt;word&gt;</c> is any characters within a line, <c>...</c> any number of lines.</param>
internal sealed record TranscriptStep(string Command, string[] Expected)
{
    /// <summary>Whether all that was printed is what the transcript says.</summary>
    public bool Matches(string printed) => Match("$", printed);

    /// <summary>Whether what was printed so far begins as the transcript says.</summary>
    public bool BeginsLike(string printed) => Match("", printed);

    private bool Match(string end, string printed)
    {
        var pattern = new StringBuilder("\\A");
        foreach (var line in Expected)
        {
            pattern.Append(line == "..." ? "(?:[^\n]*\n)*?" : LinePattern(line));
        }

        return Regex.IsMatch(printed, pattern.Append(end.Length > 0 ? "\\z" : "").ToString(), RegexOptions.NonBacktracking | RegexOptions.ExplicitCapture, TimeSpan.FromSeconds(5));
    }

    private static string LinePattern(string line) =>
        string.Join("[^\n]*", Regex.Split(line, "<[a-z]+>", RegexOptions.ExplicitCapture, TimeSpan.FromSeconds(5)).Select(Regex.Escape)) + "\n";
}

/// <summary>A fenced block of a document that begins with <c>```console</c>.</summary>
/// <param name="GoesOn">Marked <c>console node</c>: its command stays running while the later blocks are run.</param>
internal sealed record TranscriptBlock(bool GoesOn, TranscriptStep[] Steps)
{
    public static List<TranscriptBlock> ReadAll(IEnumerable<string> document)
    {
        var blocks = new List<TranscriptBlock>();
        List<(string Command, List<string> Expected)>? open = null;
        var goesOn = false;
        foreach (var line in document)
        {
            if (open is null)
            {
                open = line is "```console" or "```console node" ? [] : null;
                goesOn = line == "```console node";
            }
            else if (line == "```")
            {
                blocks.Add(new TranscriptBlock(goesOn, [.. open.Select(static step => new TranscriptStep(step.Command, [.. step.Expected]))]));
                open = null;
            }
            else if (line.StartsWith("$ ", StringComparison.Ordinal))
            {
                open.Add((line[2..], []));
            }
            else
            {
                open[^1].Expected.Add(line);
            }
        }

        return blocks;
    }
}
