using System.Globalization;

namespace KvNode.Server.Hosting;

/// <summary>How many files, sockets included, this process may have open: ulimit -n.</summary>
internal static class OpenFiles
{
    private const string LimitsFile = "/proc/self/limits";

    /// <summary>The limit in force. .NET has raised it to the hard limit by the time the program runs.</summary>
    public static long Max()
    {
        try
        {
            return Read(File.ReadLines(LimitsFile));
        }
        catch (IOException)
        {
            return long.MaxValue;
        }
    }

    /// <summary>Says that there are too few. Asked before anything else: with too few, loading the rest of the program fails.</summary>
    /// <returns>The exit code.</returns>
    public static int Refuse()
    {
        Console.Error.WriteLine($"kvnode: the system allows {Max()} open files, at least {Limits.FilesMin} are needed (ulimit -n)");
        return ExitCodes.System;
    }

    /// <summary>
    /// Clients that fit beside the files of the node itself. A connection over this number could not even be accepted in
    /// order to be told so, and the store could not open its own files.
    /// </summary>
    public static int ClientsAllowed(int wanted, long filesMax) =>
        (int)Math.Clamp(filesMax - Limits.FilesBesideClients, 1, wanted);

    /// <summary>Finds <c>Max open files  soft  hard  files</c>; no such line means no limit.</summary>
    internal static long Read(IEnumerable<string> lines)
    {
        const string Row = "Max open files";
        foreach (var line in lines)
        {
            if (line.StartsWith(Row, StringComparison.Ordinal))
            {
                var columns = line[Row.Length..].Split(' ', StringSplitOptions.RemoveEmptyEntries);
                return columns.Length > 0
                    && long.TryParse(columns[0], NumberStyles.None, CultureInfo.InvariantCulture, out var files)
                    ? files
                    : long.MaxValue;
            }
        }

        return long.MaxValue;
    }
}
