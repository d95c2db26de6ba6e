using System.Text;

namespace KvNode.Server.Hosting;

/// <summary>What <c>--help</c> prints: made from the tables, so that it cannot disagree with the code.</summary>
internal static class HelpText
{
    private const int MeaningIndent = 6;
    private const int WidthMax = 100;

    public static string Write(IReadOnlyList<ISetting> settings)
    {
        var text = new StringBuilder();
        _ = text.Append(
            """
            kvnode: a durable, ordered key/value server that speaks the Redis protocol.

            Usage:
              kvnode [flags]                    run a node until SHUTDOWN, SIGTERM or SIGINT
              kvnode --parse-snapshot FILE      write a snapshot as SET commands, for redis-cli --pipe
              kvnode check DIR [--log-dir DIR]  verify the files of a stopped node
              kvnode recover --force-new-cluster [--data DIR] [--log-dir DIR] [--advertise HOST:PORT]
                                                make a stopped node a cluster of its own, when most of the others
                                                are gone for good; its flags are those of a node

            Flags (a flag wins over its environment variable; -flag and --flag, space and = are the same):

            """);
        foreach (var setting in settings)
        {
            _ = text.Append("  ").Append(setting.Flag).Append(' ').Append(setting.Value);
            _ = setting.Default.Length > 0 ? text.Append("  (default ").Append(setting.Default).Append(')') : text;
            _ = text.Append("  [").Append(setting.Variable).Append("]\n");
            AppendWrapped(text, setting.Meaning.Replace("`", "", StringComparison.Ordinal));
        }

        _ = text.Append(
            """
              --help, -h
                  This text.
              --version
                  Name and version.

            Sizes are bytes, or with kb, mb, gb (powers of 1024) or k, m, g (powers of 1000).

            Exit codes:

            """);
        foreach (var (code, meaning) in ExitCodes.Table)
        {
            _ = text.Append("  ").Append($"{code}".PadRight(4)).Append(meaning).Append('\n');
        }

        return text.ToString();
    }

    private static void AppendWrapped(StringBuilder text, string meaning)
    {
        var column = WidthMax;
        foreach (var word in meaning.Split(' '))
        {
            if (column + 1 + word.Length > WidthMax)
            {
                _ = column == WidthMax ? text : text.Append('\n');
                _ = text.Append(' ', MeaningIndent).Append(word);
                column = MeaningIndent + word.Length;
            }
            else
            {
                _ = text.Append(' ').Append(word);
                column += 1 + word.Length;
            }
        }

        _ = text.Append('\n');
    }
}
