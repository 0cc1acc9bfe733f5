import type { Builder, Dataquery } from "@grafana/grafana-foundation-sdk/cog";
import {
  BigValueColorMode,
  GraphThresholdsStyleConfigBuilder,
  GraphThresholdsStyleMode,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TooltipDisplayMode,
  VizLegendOptionsBuilder,
  VizTooltipOptionsBuilder,
} from "@grafana/grafana-foundation-sdk/common";
import {
  FieldColorBuilder,
  FieldColorModeId,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  type Panel as GrafanaPanel,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder, PromQueryFormat } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as StateTimelineBuilder } from "@grafana/grafana-foundation-sdk/statetimeline";
import { PanelBuilder as TableBuilder } from "@grafana/grafana-foundation-sdk/table";
import { PanelBuilder as TimeseriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

/** What our panels have in common; Grafana's own SDK makes their JSON. */

export interface Query {
  readonly expr: string;
  readonly legend?: string;
}

export interface Step {
  /** Names, which Grafana draws for a light or a dark theme. */
  readonly color: "green" | "yellow" | "red" | "text";
  /** Undefined: from the beginning. */
  readonly from?: number;
}

export interface Panel {
  readonly kind: "stat" | "timeseries" | "state-timeline" | "table";
  readonly title: string;
  readonly description: string;
  readonly queries: readonly Query[];
  readonly unit?: string;
  readonly steps?: readonly Step[];
  /** Of 24 columns. */
  readonly width: number;
  /** A line where a limit is. */
  readonly lines?: boolean;
  readonly stacked?: boolean;
}

export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly rows: readonly { readonly title: string; readonly panels: readonly Panel[] }[];
}

/** Chosen at the top of a dashboard. */
export const datasource = { type: "prometheus", uid: "${datasource}" };
interface PanelBuilder extends Builder<GrafanaPanel> {
  id(id: number): this;
}

/** The panel as Grafana's SDK builds it; it has no number yet. */
export function renderPanel(panel: Panel): PanelBuilder {
  switch (panel.kind) {
    case "stat":
      return common(new StatBuilder(), panel, 4)
        .colorMode(BigValueColorMode.Background)
        .reduceOptions(new ReduceDataOptionsBuilder().calcs(["lastNotNull"]).fields("").values(false))
        .colorScheme(byThreshold());
    case "state-timeline":
      // Without that, Grafana would colour 1 as the worst and 0 as the best.
      return common(new StateTimelineBuilder(), panel, 7).colorScheme(byThreshold());
    case "table":
      return common(new TableBuilder(), panel, 8);
    case "timeseries":
      return renderTimeseries(panel);
  }
}

function renderTimeseries(panel: Panel): PanelBuilder {
  const { lines = false, stacked = false } = panel;
  return common(new TimeseriesBuilder(), panel, 8)
    .lineWidth(1)
    .fillOpacity(stacked ? 30 : 5)
    .stacking(new StackingConfigBuilder().mode(stacked ? StackingMode.Normal : StackingMode.None).group("A"))
    .thresholdsStyle(
      new GraphThresholdsStyleConfigBuilder().mode(
        lines ? GraphThresholdsStyleMode.Dashed : GraphThresholdsStyleMode.Off,
      ),
    )
    .legend(
      new VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .showLegend(true),
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending));
}

const byThreshold = (): FieldColorBuilder => new FieldColorBuilder().mode(FieldColorModeId.Thresholds);

/** What builders of all kinds of panels have. */
interface AnyBuilder {
  title(title: string): this;
  description(description: string): this;
  datasource(source: typeof datasource): this;
  span(columns: number): this;
  height(rows: number): this;
  unit(unit: string): this;
  thresholds(thresholds: ThresholdsConfigBuilder): this;
  withTarget(target: Builder<Dataquery>): this;
}

function common<B extends AnyBuilder>(builder: B, panel: Panel, height: number): B {
  const { kind, title, description, queries, unit = "short", steps = [{ color: "green" }], width } = panel;
  builder.title(title).description(description).datasource(datasource).span(width).height(height).unit(unit);
  builder.thresholds(
    new ThresholdsConfigBuilder()
      .mode(ThresholdsMode.Absolute)
      .steps(steps.map(({ color, from = null }) => ({ color, value: from }))),
  );
  for (const [index, { expr, legend = "" }] of queries.entries()) {
    const query = new DataqueryBuilder()
      .refId(String.fromCodePoint(65 + index))
      .datasource(datasource)
      .expr(expr);
    query.legendFormat(legend);
    if (kind === "table") query.format(PromQueryFormat.Table);
    builder.withTarget(kind === "stat" || kind === "table" ? query.instant() : query.range());
  }
  return builder;
}
